"""No launcher asks the device for a value: seen here, in the interpreter, by the torch calls that it makes."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastkd.ops import (
    _discrepancy_checks,
    rank_of,
    ranks_within,
    sample_rank_discrepancy,
    sample_ranked,
    sample_softmax,
    sample_unobserved,
)
from tests.contracts.backends import device_of
from tests.ops.test_sample_rank_discrepancy import exclusions, tables

READS = ("_local_scalar_dense", "item", "nonzero", "_unique2", "unique_dim", "masked_select", "equal", "is_nonzero")
"""Calls whose result, or its shape, the host must wait for."""


class NoWait(TorchDispatchMode):
    """Fails on calls that would wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        waits = name in READS
        if name in ("index", "index_put", "index_put_"):
            waits = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name == "repeat_interleave":
            waits = (kwargs or {}).get("output_size") is None
        if name in ("_to_copy", "copy_"):
            target = (kwargs or {}).get("device") or args[0].device
            waits = target.type == "cpu" and any(isinstance(a, torch.Tensor) and a.is_cuda for a in args)
        assert not waits, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def calls():
    device = device_of("triton")
    teacher, student = (tuple(t.to(device) for t in tables(3, 70, d, d)) for d in (6, 4))
    seen = exclusions(3, 70, 0.2)
    seen.to_torch(device)
    users, lists = torch.arange(3, device=device), torch.randint(-1, 70, (3, 9), device=device)
    options = {"seed": 1, "epoch": 2, "backend": "triton"}
    discrepancy = {
        "direction": "student_to_teacher", "epsilon": 0.02, "exclude": seen, "complete": False, "replacement": False,
    }  # fmt: skip
    return {
        "rank_of": lambda: rank_of(*teacher, lists, exclude=seen, validate=False, backend="triton"),
        "rank_of few": lambda: rank_of(*teacher, lists[:, :2], exclude=seen, validate=False, backend="triton"),
        "ranks_within": lambda: ranks_within(lists, lists.flip(1), backend="triton"),
        "rank_discrepancy": lambda: sample_rank_discrepancy(teacher, student, 3, **discrepancy, **options),
        "rank_discrepancy, lists": lambda: sample_rank_discrepancy(teacher, lists, 3, **discrepancy, **options),
        "ranked": lambda: sample_ranked(users, 9, 4, temperature=3.0, **options),
        "softmax": lambda: sample_softmax(*teacher, 3, temperature=1.0, exclude=seen, user_ids=users, **options),
        "unobserved": lambda: sample_unobserved(seen, users, 4, exclude_lists=lists, validate=False, **options),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("name", list(calls()))
def test_a_launcher_never_waits(name, monkeypatch):
    # Checks of values that are made of CPU tensors alone; the interpreter's are such.
    monkeypatch.setattr(_discrepancy_checks, "_check_lists", lambda *_: None)
    monkeypatch.setattr(importlib.import_module("fastkd.ops.sample_ranked"), "_check_not_negative", lambda *_: None)
    call = calls()[name]
    with NoWait():
        call()


def test_the_check_sees_what_waits():
    values = torch.arange(4)
    for wait in (
        lambda: int(values[0]), lambda: values[values > 1], lambda: values.unique(), lambda: values.nonzero(),
        lambda: torch.repeat_interleave(values),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="waits for the device"), NoWait():
            wait()
