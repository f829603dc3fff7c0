"""Compiled code follows every edit of its folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import fastkd.kernels.numba as room

KERNEL = """
from pk._jit import jit
from pk.helper import twice
@jit()
def run(x):
    return twice(x) + 1
print(run(3), run._cache_hits)
"""
HELPER = """
from pk._jit import jit
@jit()
def twice(x):
    return {factor} * x
"""


def test_an_edit_in_a_helper_is_noticed(tmp_path):
    folder = tmp_path / "pk"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    shutil.copy(Path(room.__file__).parent / "_jit.py", folder)
    (folder / "kernel.py").write_text(KERNEL)

    def run(factor: int) -> str:
        (folder / "helper.py").write_text(HELPER.format(factor=factor))
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pk.kernel"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        return done.stdout.strip()

    assert run(2).startswith("7 ")
    cached = run(2)
    assert cached.startswith("7 ")
    assert "): 1" in cached, f"the second process found nothing compiled: {cached}"
    assert run(5).startswith("16 ")
