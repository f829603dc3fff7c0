import os
import subprocess
import sys

import pytest

from fastkd.cli.exits import EXIT_CODES
from fastkd.cli.main import app


def test_help_states_example_and_exit_codes(fastkd):
    shown = " ".join(fastkd("--help").stdout.split())
    assert "fastkd demo" in shown
    for code, text in EXIT_CODES.items():
        assert f"{code} {text}" in shown


def test_all_commands_are_there():
    names = {c.name or c.callback.__name__ for c in app.registered_commands} | {g.name for g in app.registered_groups}
    measuring = {"evaluate", "report", "methods", "bench", "doctor"}
    assert names == {"demo", "data", "train", "distill", "recommend", "export"} | measuring


def test_the_version_is_printed(fastkd):
    import fastkd as package

    assert fastkd("--version").stdout == f"fastkd {package.__version__}\n"


def test_an_unknown_command_or_option_is_usage(fastkd):
    assert "distil" in fastkd("distil", code=2).stderr
    assert "--nonsense" in fastkd("doctor", "--nonsense", code=2).stderr


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nsys.argv = ['fastkd', '--help']\nfrom fastkd.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert e.code == 0\n"
        "assert not {'torch', 'numba', 'triton', 'pyarrow'} & set(sys.modules), 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
    ids=["nothing", "spins", "policy"],
)
def test_torchs_threads_spin_briefly_unless_told_otherwise(said, spins):
    code = (
        "import os, sys\nsys.argv = ['fastkd', '--help']\nfrom fastkd.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint(os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept | said)
    assert done.stdout.splitlines()[-1] == str(spins)
