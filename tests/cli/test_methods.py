import json

from fastkd.distillation import METHODS
from fastkd.presets import PRESETS


def test_methods_state_paper_and_knowledge(fastkd):
    rows = json.loads(fastkd("methods", "--json").stdout)
    assert [r["name"] for r in rows] == list(METHODS)
    assert all(r["paper"] and r["knowledge"] for r in rows)
    shown = fastkd("methods").stdout
    assert all(name in shown for name in METHODS)


def test_presets_are_listed(fastkd):
    shown = fastkd("methods", "--presets").stdout
    assert all(name in shown for name in PRESETS)
