import json
import shutil
import statistics

import pytest

from fastkd.cli._against_plain import lead_metric
from fastkd.cli.config import stored_study
from fastkd.cli.results import collect, read_curve
from fastkd.core.errors import ConfigError
from fastkd.evaluation.tables import change


@pytest.fixture(scope="module")
def values(finished):
    return json.loads((finished / "results.json").read_text())


def test_the_numbers_are_those_of_the_runs(finished, values):
    for name in ("none", "rrd", "de", "bd"):
        test = json.loads((finished / "students" / name / "seed0" / "test.json").read_text())
        assert values["students"][name]["mean"] == test["metrics"]
        assert set(values["students"][name]["std"].values()) == {0.0}
    assert values["teacher"]["metrics"] == json.loads((finished / "teacher" / "test.json").read_text())["metrics"]


def test_the_recovered_share_is_its_formula(values):
    students, metric = values["students"], "ndcg@10"
    top, plain = values["teacher"]["metrics"][metric], students["none"]["mean"][metric]
    for name in ("rrd", "de", "bd"):
        share = students[name]["recovered"][metric]
        if top <= plain:
            assert share is None
        else:
            assert share == pytest.approx((students[name]["mean"][metric] - plain) / (top - plain))


def test_differences_to_the_plain_student_are_tested(values):
    for name in ("rrd", "de", "bd"):
        student = values["students"][name]
        for metric, test in student["against_plain"].items():
            difference = student["mean"][metric] - values["students"]["none"]["mean"][metric]
            assert test["mean_difference"] == pytest.approx(difference, abs=1e-12)
            assert 0 < test["p_value"] <= 1
    assert "against_plain" not in values["students"]["none"]
    gap = values["teacher_against_plain"]
    wanted = values["teacher"]["metrics"]["ndcg@10"] - values["students"]["none"]["mean"]["ndcg@10"]
    assert gap["mean_difference"] == pytest.approx(wanted, abs=1e-12)


def test_the_ceiling_is_above_every_model(values):
    ceiling = values["oracle"]["ndcg@10"]
    models = [values["teacher"]["metrics"], *(s["mean"] for s in values["students"].values())]
    assert all(m["ndcg@10"] < ceiling for m in models)


def test_the_budget_and_versions_are_stated(values):
    assert values["budget"]["runs"] == 5
    assert values["budget"]["epochs"] == 6 + 4 + 4 + 4 + 2
    assert values["budget"]["seconds"] > 0
    assert values["versions"]["torch"]
    assert values["students"]["rrd"]["seeds"]["0"]["parameters"] == (220 + 150) * 3
    assert values["students"]["rrd"]["seeds"]["0"]["users_per_second"] > 0
    assert values["teacher"]["parameters"] == (220 + 150) * 16


def test_the_report_opens_offline_and_holds_the_numbers(finished, values):
    page = (finished / "report.html").read_text()
    assert f"{values['students']['rrd']['mean']['ndcg@10']:.4f}" in page
    assert "<script" not in page


def test_curves_are_the_validation_metric(finished):
    curve = read_curve(finished / "teacher", "ndcg@10")
    assert len(curve.values) == 3  # 6 epochs, evaluated every 2
    assert max(curve.values) == pytest.approx(
        json.loads((finished / "teacher" / "test.json").read_text())["valid"]["ndcg@10"]
    )
    assert read_curve(finished / "teacher", "nonsense@3") is None


def test_means_and_spread_are_over_seeds(finished):
    results = collect(stored_study(finished), finished)
    runs = results.values["students"]["none"]["seeds"]
    mean = statistics.fmean(r["metrics"]["ndcg@10"] for r in runs.values())
    assert results.values["students"]["none"]["mean"]["ndcg@10"] == pytest.approx(mean)


def test_a_study_without_runs_says_how_to_get_them(finished, tmp_path):
    with pytest.raises(ConfigError, match="fastkd distill --folder"):
        collect(stored_study(finished), tmp_path)


def test_the_leading_metric_is_the_watched_one_if_measured(finished):
    assert lead_metric(stored_study(finished)) == "ndcg@10"


def test_shares_and_changes_are_of_the_seeds_that_both_have(finished, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(finished, folder, symlinks=True)
    more = folder / "students/none/seed7"
    shutil.copytree(folder / "students/none/seed0", more, symlinks=True)
    test = json.loads((more / "test.json").read_text())
    test["metrics"] = {name: 2 * value for name, value in test["metrics"].items()}
    (more / "test.json").write_text(json.dumps(test | {"seed": 7}))
    before, after = (collect(stored_study(finished), f) for f in (finished, folder))
    for name in ("rrd", "de", "bd"):
        assert after.values["students"][name]["recovered"] == before.values["students"][name]["recovered"]
    row = {r.name: r for r in after.report.rows}["rrd"]
    assert change(after.report, row) == change(before.report, {r.name: r for r in before.report.rows}["rrd"])
    assert "Seeds of rrd, de, bd are not those of the plain student" in " ".join(after.report.notes)
    shutil.move(folder / "students/none/seed0", folder / "students/none/seed9")
    alone = collect(stored_study(finished), folder)
    assert alone.values["students"]["rrd"]["recovered"]["ndcg@10"] is None
