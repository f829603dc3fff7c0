import json
import shutil


def test_a_report_is_made_again_from_the_runs(fastkd, finished, tmp_path):
    copy = tmp_path / "moved"
    shutil.copytree(finished, copy, symlinks=True)
    before = json.loads((copy / "results.json").read_text())
    page = (copy / "report.html").read_text()
    (copy / "results.json").unlink()
    (copy / "report.html").unlink()
    assert "Quality" in fastkd("report", copy).stdout
    assert json.loads((copy / "results.json").read_text()) == before
    assert (copy / "report.html").read_text() == page
    assert json.loads(fastkd("report", copy, "--json").stdout) == before


def test_what_is_no_study_is_named(fastkd, tmp_path):
    assert str(tmp_path) in fastkd("report", tmp_path, code=2).stderr


def test_a_damaged_run_is_named(fastkd, finished, tmp_path):
    copy = tmp_path / "moved"
    shutil.copytree(finished, copy, symlinks=True)
    (copy / "students" / "rrd" / "seed0" / "test.json").write_text("")
    assert "rrd/seed0/test.json" in fastkd("report", copy, code=4).stderr
