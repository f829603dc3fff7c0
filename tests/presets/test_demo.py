import dataclasses

import pytest

from fastkd.cli.study import run_study
from fastkd.data import synthetic_dataset
from fastkd.presets import PRESETS


def test_the_demo_is_planted_and_small():
    study = PRESETS.get("demo")
    synthetic = study.data.synthetic
    assert synthetic.num_users * synthetic.interactions_per_user < 200_000
    assert study.teacher.model.dim > 4 * study.student.model.dim
    # a planted factor the narrow student has no room for
    factors = synthetic.num_clusters + (synthetic.num_styles if synthetic.num_styles > 1 else 0)
    assert study.student.model.dim < factors <= study.teacher.model.dim
    assert study.method_names() == ("none", "rrd", "de", "bd")


def test_the_lists_fit_the_catalogue():
    study = PRESETS.get("demo")
    made = synthetic_dataset(study.data.synthetic)
    top = study.methods["rrd"].options["top"]
    assert (
        top + study.methods["rrd"].options["unranked"] + int(made.dataset.train.degrees().max())
        < made.dataset.num_items
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 8, 9, 10, 11])
def test_every_distilled_student_beats_the_plain_one_on_other_planted_catalogues_too(seed, tmp_path):
    demo = PRESETS.get("demo")
    planted = dataclasses.replace(demo.data.synthetic, seed=seed)
    study = dataclasses.replace(
        demo, seeds=(seed,), data=dataclasses.replace(demo.data, synthetic=planted, name=f"planted-{seed}")
    )
    rows = {row.name: row for row in run_study(study, tmp_path / "demo").report.rows}
    for name in ("rrd", "de", "bd"):
        assert rows[name].versus_plain.mean_difference > 0
        assert rows[name].versus_plain.p_value < 0.05
