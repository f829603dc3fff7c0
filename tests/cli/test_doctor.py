import json

from fastkd.cli.commands.doctor import remedy
from fastkd.core.capability import Finding


def test_every_part_is_listed(fastkd):
    shown = fastkd("doctor").stdout
    for part in ("python", "torch", "native samplers", "gpu", "backend numba", "backend reference"):
        assert part in shown


def test_a_missing_part_has_a_remedy(monkeypatch, fastkd):
    rows = [Finding("native samplers", False, "not built"), Finding("torch", True, "2.0")]
    monkeypatch.setattr("fastkd.core.capability.findings", lambda: rows)
    found = json.loads(fastkd("doctor", "--json").stdout)
    assert found[0]["active"] is False
    assert "pip install" in found[0]["remedy"]
    assert found[1]["remedy"] == ""
    assert "pip install" in fastkd("doctor").stdout


def test_an_unknown_part_is_not_left_without_a_word():
    assert remedy("something new", False)
