"""The front page's quality tables are what the kept studies say, word for word."""

import json
from pathlib import Path

import pytest

from benchmarks import studies

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted(studies.KEPT.glob("*.json")), ids=lambda path: path.stem)
def test_the_front_page_has_the_tables_of_the_kept_studies(path):
    study = json.loads(path.read_text(encoding="utf-8"))
    milliseconds = json.loads(studies.SERVING.read_text(encoding="utf-8"))
    assert studies.markdown(study, milliseconds) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_sizes_whose_latency_is_unknown_are_named(monkeypatch, tmp_path, capsys):
    (tmp_path / "serving.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(studies, "SERVING", tmp_path / "serving.json")
    monkeypatch.setattr("sys.argv", ["studies.py"])
    with pytest.raises(SystemExit):
        studies.main()
    assert "3706x10" in capsys.readouterr().err
