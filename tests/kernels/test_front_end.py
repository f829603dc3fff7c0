"""Kernels as small calls start them pass Triton's front end, which the interpreter does without.

It refuses what Python allows: ``.to`` on a size of 1 (a constant there), a name that changes shape in a loop, returns
of different types. ``benchmarks/compile_report.py`` sees the constants of large calls alone.
"""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from fastkd import ops
from tests.contracts.backends import interpreted

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not interpreted("triton"), reason="a GPU compiles what it runs")
TYPES = {torch.float32: "fp32", torch.float64: "fp64", torch.float16: "fp16", torch.bfloat16: "bf16",
         torch.int64: "i64", torch.int32: "i32", torch.int8: "i8"}  # fmt: skip
OPTIONS = {"num_warps", "num_stages", "maxnreg", "enable_fp_fusion"}


def read(kernel, args, given):
    """Return (module, kernel, types, constants, options) as Triton would specialise a launch."""
    names = list(inspect.signature(kernel).parameters)
    types, constants, options = {}, {}, {n: v for n, v in given.items() if n in OPTIONS}
    for name, value in {**dict(zip(names, args, strict=False)), **given}.items():
        if name not in names:
            continue
        if isinstance(value, torch.Tensor):
            types[name] = f"*{TYPES[value.dtype]}"
        elif isinstance(value, triton.language.dtype):
            constants[name] = f"tl.{ {'fp32': 'float32', 'fp64': 'float64'}[str(value)] }"
        elif "constexpr" in str(inspect.signature(kernel).parameters[name].annotation) or value is None or value == 1:
            constants[name] = value
        else:
            types[name] = "fp32" if isinstance(value, float) else "i32" if -(2**31) <= value < 2**31 else "i64"
    return kernel.__module__, kernel.__name__, types, constants, options


def launches(calls):
    """Return what the calls start; nothing is run, for launchers never look at values."""
    from triton.runtime.interpreter import InterpretedFunction

    found = []

    def run(self, *args, grid, warmup, **given):
        found.append(read(self.fn, args, given))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpretedFunction, "run", run)
        for call in calls:
            call()
    return found


def tables(rows, num_items, dim, dtype=torch.float32):
    return [torch.randn(n, dim).to(dtype).requires_grad_() for n in (rows, num_items)]


def catalogue(rows, num_items, dtype, tail):
    student, teacher = tables(rows, num_items, 4, dtype), tables(rows, num_items, 3, dtype)
    ids, share = torch.zeros(rows, 2, dtype=torch.int64), torch.full((rows, 2), 0.4)
    options = {"validate": False, "backend": "triton"}
    ops.catalogue_softmax(*student, ids, share, tail_mass=tail, **options).sum().backward()
    ops.catalogue_divergence(student, [t.detach() for t in teacher], **options).sum().backward()


def ranking(rows, num_items, dtype):
    users, items = (t.detach() for t in tables(rows, num_items, 4, dtype))
    ids = torch.zeros(rows, 1, dtype=torch.int64)
    ops.rank_topk(users, items, 1, backend="triton")
    ops.rank_of(users, items, ids, validate=False, backend="triton")
    ops.sample_softmax(users, items, 1, temperature=1.0, seed=1, epoch=0, backend="triton")


def test_the_front_end_takes_every_launch(tmp_path):
    calls = [
        partial(call, rows, num_items, dtype, *more)
        for rows, num_items in ((1, 1), (1, 300), (3, 300), (70, 300))
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
        for call, *more in ((ranking,), (catalogue, 0.0), (catalogue, 0.2))
    ]
    found = {repr(launch): launch for launch in launches(calls)}
    assert {launch[1] for launch in found.values()} >= {"scan", "settle", "finish", "pair_users", "draw_kernel"}
    path, root = tmp_path / "launches", Path(__file__).parents[2]
    where = os.pathsep.join((str(root), os.environ.get("PYTHONPATH", "")))
    path.write_bytes(pickle.dumps(list(found.values())))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("front_end.py")), str(path)], cwd=root, text=True,
        capture_output=True, check=True, env={**os.environ, "PYTHONPATH": where},
    )  # fmt: skip
    assert done.stdout == f"{len(found)} launches read\n"
