import json


def test_the_demo_explains_what_happened(fastkd, tmp_path):
    small = ["data.synthetic.num_users=150", "data.synthetic.num_items=120", "data.synthetic.interactions_per_user=12"]
    small += [f"{role}.training.epochs=1" for role in ("teacher", "student")]
    small += [f"methods.{m}.training.epochs=1" for m in ("rrd", "de", "bd")]
    small += ["methods.rrd.options.top=40", "teacher.training.eval_every=1", "student.training.eval_every=1"]
    small += ["data.synthetic.num_clusters=5", "data.synthetic.num_styles=2"]
    args = [a for s in small for a in ("--set", s)]
    shown = fastkd("demo", "--folder", tmp_path / "demo", *args).stdout
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert "150 users and 120 items" in shown
    assert f"{results['oracle']['ndcg@10']:.4f}" in shown
    assert set(results["students"]) == {"none", "rrd", "de", "bd"}
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "The catalogue is planted" in page
    assert fastkd("report", tmp_path / "demo").stdout.startswith("Quality")
    assert "The catalogue is planted" in (tmp_path / "demo" / "report.html").read_text()


def test_the_demo_can_be_seen_dry(fastkd):
    assert "name: demo" in fastkd("demo", "--dry-run").stdout
