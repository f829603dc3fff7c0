import subprocess
import sys

import pytest

from fastkd.core import capability


def test_importing_fastkd_touches_neither_triton_nor_numba_nor_cuda():
    code = (
        "import sys, fastkd; bad = {'triton', 'numba', 'torch'} & set(sys.modules); assert not bad, bad; "
        "import fastkd.ops, fastkd.losses; bad = {'triton', 'numba'} & set(sys.modules); assert not bad, bad; "
        "import torch; assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reference_runs_anywhere_and_numba_only_on_the_cpu():
    assert capability.backend_obstacle("reference", "cuda") is None
    assert "these are on cuda" in str(capability.backend_obstacle("numba", "cuda"))
    assert "unknown backend" in str(capability.backend_obstacle("cuda-c", "cpu"))


def test_triton_refuses_cpu_tensors_unless_interpreting(monkeypatch):
    capability.backend_obstacle.cache_clear()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert capability.backend_obstacle("triton", "cpu") is not None
    capability.backend_obstacle.cache_clear()


def test_every_finding_says_something():
    rows = capability.findings()
    assert {"python", "torch", "native samplers", "gpu", "backend reference"} <= {r.name for r in rows}
    assert all(r.detail for r in rows)


@pytest.mark.parametrize("package", ["torch", "no-such-package-at-all"])
def test_versions(package):
    assert (capability.version_of(package) is None) == package.startswith("no-such")
