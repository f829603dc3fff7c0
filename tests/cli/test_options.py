import pytest

COMMANDS = [
    ("demo",),
    ("train",),
    ("distill",),
    ("evaluate",),
    ("recommend",),
    ("report",),
    ("methods",),
    ("doctor",),
    ("data",),
    ("data", "prepare"),
    ("data", "synth"),
    ("data", "fetch"),
    ("data", "info"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example_of_its_command(fastkd, command):
    shown = fastkd(*command, "--help").stdout
    assert f"Example:  fastkd {' '.join(command)}" in shown


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != ("data",)], ids=" ".join)
def test_every_command_speaks_json(fastkd, command):
    assert "--json" in fastkd(*command, "--help").stdout


@pytest.mark.parametrize("command", ["demo", "train", "distill"])
def test_studies_can_be_overridden_and_tried_dry(fastkd, command):
    shown = fastkd(command, "--help").stdout
    assert "--set" in shown
    assert "--dry-run" in shown
