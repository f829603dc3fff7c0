import json

import pytest

from fastkd.cli.shares import loss_shares, order_kept, share_notes


def logged(folder, *events):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


def epoch(**losses):
    return {"event": "epoch", "epoch": 0, "losses": losses}


def test_shares_of_the_last_epoch(tmp_path):
    last = epoch(base=6.0, kd=2.0, **{"kd/share_de": 0.75, "kd/share_rrd": 0.25, "kd/rrd": 9.0})
    run = logged(tmp_path, epoch(base=1.0, kd=1.0), last, {"event": "step", "losses": {"kd": 100.0}})
    shares = loss_shares(run)
    assert shares == pytest.approx({"base": 0.75, "de": 0.1875, "rrd": 0.0625})
    assert share_notes({"de+rrd": {"loss_shares": shares}, "none": {}}) == (
        "Loss of de+rrd in its last epoch: base 75 %, de 19 %, rrd 6 %.",
    )


def test_one_method_is_kd_and_a_loss_without_base_is_all_its_own(tmp_path):
    assert loss_shares(logged(tmp_path, epoch(base=3.0, kd=1.0))) == {"base": 0.75, "kd": 0.25}
    assert loss_shares(logged(tmp_path, epoch(kd=-1.0))) == {"kd": 1.0}
    assert loss_shares(logged(tmp_path, epoch(base=0.0, kd=0.0))) == {"base": 0.0, "kd": 0.0}


def test_the_order_that_projectors_keep_is_shown(tmp_path):
    run = logged(tmp_path, epoch(base=1.0, kd=1.0, **{"kd/pckd_order_kept": 0.834}))
    assert order_kept(run) == 0.834
    assert share_notes({"pckd": {"order_kept": 0.834}}) == ("Projectors of pckd kept 83 % of users' order of items.",)
    assert order_kept(logged(tmp_path, epoch(base=1.0, kd=1.0))) is None


def test_the_plain_student_has_none(tmp_path):
    assert loss_shares(tmp_path) is None
    assert loss_shares(logged(tmp_path, epoch(base=3.0))) is None


def test_a_combination_from_the_command_line(fastkd, study, write, tmp_path):
    study["methods"] = {
        "de+rrd": {"training": {"epochs": 2}, "options": {"methods": {"de": {"experts": 2}}}},
        "rrd": {"options": {"ranked": 7}},
    }
    study["teacher"]["training"]["epochs"] = 1
    # The study's combination by another order, twice: one student. A new one takes over options of its parts.
    given = write(study), "--method", "rrd+de,ftd+rrd,de+rrd", "--folder", tmp_path / "run"
    done = fastkd("distill", *given, "--set", "methods.de+rrd.options.methods.rrd.ranked=5")
    shown = done.stdout
    assert "ftd+rrd is not in the study; it takes over its options of rrd" in done.stderr
    assert "Loss of de+rrd in its last epoch: base" in shown.replace("\n", " ")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["students"]) == {"de+rrd", "ftd+rrd"}
    taken = results["students"]["ftd+rrd"]["seeds"]["0"]["definition"]["options"]["methods"]
    assert taken["rrd"]["ranked"] == 7
    values = results["students"]["de+rrd"]
    assert values["method"] == "de+rrd"
    assert sum(values["loss_shares"].values()) == pytest.approx(1.0)
    assert set(values["loss_shares"]) == {"base", "de", "rrd"}
    methods = values["seeds"]["0"]["definition"]["options"]["methods"]
    assert (methods["de"]["experts"], methods["rrd"]["ranked"]) == (2, 5)
    assert "ftd" in results["students"]["ftd+rrd"]["loss_shares"]
    assert "Loss of de+rrd in its last epoch" in (tmp_path / "run" / "report.html").read_text()
