from __future__ import annotations

import pytest

from fastkd.core.errors import BackendError
from fastkd.ops import _dispatch
from fastkd.ops._dispatch import choose, has_kernel, kernel
from tests.contracts.op_contract import run_fresh


@pytest.fixture
def obstacles(monkeypatch):
    """Obstacles by (backend, device); everything else runs."""
    table: dict[tuple[str, str], str] = {}
    kernels = {"triton", "numba", "reference"}
    monkeypatch.setattr(_dispatch, "_CHOSEN", {})
    monkeypatch.setattr(_dispatch, "backend_obstacle", lambda backend, device: table.get((backend, device)))
    monkeypatch.setattr(_dispatch, "has_kernel", lambda op, backend: backend in kernels)
    return table, kernels


def test_auto_takes_the_first_without_an_obstacle(obstacles):
    table, kernels = obstacles
    assert choose("op", "auto", "cuda") == "triton"
    table["triton", "cpu"] = "needs CUDA"
    assert choose("op", "auto", "cpu") == "numba"
    kernels.remove("numba")
    assert choose("other", "auto", "cpu") == "reference"


def test_an_answer_is_found_once(obstacles):
    table, _ = obstacles
    assert choose("op", "auto", "cuda") == "triton"
    table["triton", "cuda"] = "gone"
    assert choose("op", "auto", "cuda") == "triton"


def test_explicit_backend_is_refused_with_its_obstacle_and_what_would_work(obstacles):
    table, kernels = obstacles
    table["triton", "cpu"] = "needs CUDA"
    with pytest.raises(
        BackendError, match=r"op cannot run with backend='triton' on cpu.*triton: needs CUDA.*numba, ref"
    ):
        choose("op", "triton", "cpu")
    kernels.clear()
    with pytest.raises(BackendError, match=r"triton: it has no kernel.*numba: it has no kernel.*reference: it has no"):
        choose("op", "auto", "cpu")
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'. Known: auto, triton, numba, reference"):
        choose("op", "cuda", "cpu")


def test_kernels_are_found_by_their_file():
    assert has_kernel("relaxed_ranking", "numba")
    assert has_kernel("relaxed_ranking", "reference")
    assert not has_kernel("relaxed_rankings", "numba")
    assert not has_kernel("relaxed_ranking", "nowhere")
    assert kernel("relaxed_ranking", "reference").__name__ == "fastkd.kernels.reference.relaxed_ranking"


def test_importing_the_ops_loads_no_backend():
    code = (
        "import sys, fastkd, fastkd.ops, fastkd.losses;"
        "print([m for m in ('numba', 'triton', 'torch._dynamo') if m in sys.modules])"
    )
    assert run_fresh(code) == "[]"


def test_first_call_loads_numba_alone():
    code = (
        "import sys, torch; from fastkd import ops; ops.relaxed_ranking(torch.zeros(1, 2), torch.zeros(1, 2));"
        "print([m for m in ('numba', 'triton') if m in sys.modules])"
    )
    assert run_fresh(code) == "['numba']"
