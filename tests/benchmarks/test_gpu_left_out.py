"""On a bare machine a test that lacks a package is left out by its name; what is broken for another reason fails."""

import os
import subprocess
import sys
from pathlib import Path

FILES = {
    "test_import.py": "import surely_not_installed\ndef test_it(): pass\n",
    "test_inside.py": "def test_lacks():\n    import surely_not_installed\ndef test_passes(): pass\n",
    "test_ours.py": "def test_ours():\n    import fastkd.no_such_room\n",
    "test_wrong.py": "def test_wrong(): assert 1 + 1 == 3\n",
}


def test_what_is_missing_is_skipped_and_what_is_wrong_fails(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "benchmarks.gpu_left_out", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        check=False, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert found.returncode == 1, found.stdout + found.stderr
    assert "2 failed, 1 passed, 2 skipped" in found.stdout
    assert found.stdout.count("surely_not_installed is not installed") == 2
    assert "FAILED test_ours.py::test_ours" in found.stdout
    assert "FAILED test_wrong.py::test_wrong" in found.stdout
