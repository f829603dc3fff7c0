"""The item gradient's sums on the GPU (interpreted here): both ways, popular items, every edge of a tile."""

from __future__ import annotations

import pytest
import torch

from tests.contracts.backends import device_of, poisoned
from tests.contracts.closeness import assert_earned

segments = pytest.importorskip("fastkd.kernels.triton._segment_sum")


def truth(coefficients, keys, users, upstream, items, dtype=torch.float64):
    out = torch.zeros(items.shape, dtype=dtype)
    rows = (coefficients.to(dtype) * upstream.to(dtype).unsqueeze(1)).unsqueeze(2) * users.to(dtype).unsqueeze(1)
    known = (keys >= 0) & (keys < len(items))
    return out.index_add_(0, keys[known].long(), rows[known])


def inputs(rows, width, dim, count, *, popular=0.0, seed=0):
    random = torch.Generator().manual_seed(seed)
    keys = torch.randint(-1, count + 1, (rows, width), generator=random, dtype=torch.int32)
    keys[torch.rand(rows, width, generator=random) < popular] = count // 2
    return [
        torch.randn(rows, width, generator=random), keys, torch.randn(rows, dim, generator=random),
        torch.randn(rows, generator=random), torch.zeros(count, dim),
    ]  # fmt: skip


CASES = [
    {"rows": 3, "width": 5, "dim": 4, "count": 7},
    {"rows": 16, "width": 8, "dim": 3, "count": 200},
    {"rows": 40, "width": 8, "dim": 20, "count": 9},  # runs longer than a tile
    {"rows": 60, "width": 40, "dim": 2, "count": 50, "popular": 0.9},  # a run of more tiles than are added at once
    {"rows": 4, "width": 8, "dim": 150, "count": 3},  # more dimensions than a program takes
    {"rows": 33, "width": 1, "dim": 1, "count": 1, "popular": 1.0},
]


@pytest.mark.parametrize("few", [0, 10**6], ids=["sorted", "searched"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_right_and_own_every_row(monkeypatch, few, case):
    if few and case["rows"] * case["width"] > 500:
        case = case | {"rows": 10}
    monkeypatch.setattr(segments, "FEW", few)
    monkeypatch.setattr(segments, "new", poisoned(segments.new))
    tensors = inputs(**case)
    found = segments.segment_sum(*(t.to(device_of("triton")) for t in tensors)).cpu()
    assert_earned(found, truth(*tensors, dtype=torch.float32), truth(*tensors))


@pytest.mark.parametrize("few", [0, 10**6])
def test_half_precision_is_rounded_once(monkeypatch, few):
    monkeypatch.setattr(segments, "FEW", few)
    tensors = inputs(30, 3, 5, 4, popular=0.5)
    half = [*tensors[:4], tensors[4].bfloat16()]
    full, found = (segments.segment_sum(*(t.to(device_of("triton")) for t in x)).cpu() for x in (tensors, half))
    assert torch.equal(found, full.bfloat16())


@pytest.mark.parametrize("few", [0, 10**6])
def test_wide_keys_are_narrowed_without_becoming_somebody_elses(monkeypatch, few):
    monkeypatch.setattr(segments, "FEW", few)
    tensors = inputs(10, 5, 3, 4)
    tensors[1] = tensors[1].long()
    tensors[1][0] = torch.tensor([2**32, 2**32 + 1, -(2**32), 2**40, -(2**63)])
    found = segments.segment_sum(*(t.to(device_of("triton")) for t in tensors)).cpu()
    assert_earned(found, truth(*tensors, dtype=torch.float32), truth(*tensors))


@pytest.mark.parametrize("few", [0, 10**6])
@pytest.mark.parametrize("dim", [3, 150])
def test_backward_takes_two_launches_where_there_are_few_entries(monkeypatch, few, dim):
    listwise = pytest.importorskip("fastkd.kernels.triton._listwise")
    monkeypatch.setattr(segments, "FEW", few)
    monkeypatch.setattr(listwise, "new", poisoned(listwise.new))
    launched = []
    for module, name in ((segments, "_first"), (segments, "_runs"), (listwise, "_scale")):
        kernel = getattr(module, name)
        counting = type("Counting", (), {"__getitem__": lambda _, g, k=kernel, n=name: launched.append(n) or k[g]})
        monkeypatch.setattr(module, name, counting())
    coefficients, keys, users, upstream, items = (t.to(device_of("triton")) for t in inputs(6, 5, dim, 4))
    unit = torch.randn(6, dim).to(users.device)
    made = listwise.listwise_backward(
        upstream, coefficients, keys, unit, users.bfloat16(), items, need_users=True, need_items=True
    )
    assert launched == (["_first"] if few else ["_runs", "_scale"])  # and the memory set to 0
    assert torch.equal(made[0], (unit * upstream.unsqueeze(1)).bfloat16())
    given = [t.cpu() for t in (coefficients, keys, users.bfloat16(), upstream, items)]
    assert_earned(made[1].cpu(), truth(*given, dtype=torch.float32), truth(*given))


@pytest.mark.parametrize("count", [2**31 - 1, 2**31])
def test_keys_are_as_narrow_as_the_table_allows(count):
    assert segments.key_dtype(count) == (torch.int32 if count < 2**31 else torch.int64)
    from fastkd.kernels.numba import _listwise as numba_side
    from fastkd.ops._listwise import key_dtype

    assert key_dtype(torch.empty(count, 0, device="meta")) == segments.key_dtype(count)
    assert torch.from_numpy(numba_side.np.empty(0, numba_side.key_dtype(count))).dtype == segments.key_dtype(count)


@pytest.mark.gpu
def test_popular_items_and_rows_past_two_to_the_31_bytes():
    random = torch.Generator("cuda").manual_seed(0)
    keys = torch.randint(0, 40_000_000, (8192, 100), generator=random, device="cuda", dtype=torch.int32)
    keys[:, 0] = 39_999_999
    tensors = [torch.randn(8192, 100, device="cuda"), keys, torch.randn(8192, 64, device="cuda"),
               torch.ones(8192, device="cuda"), torch.empty(40_000_000, 64, device="cuda")]  # fmt: skip
    first, second = (segments.segment_sum(*tensors) for _ in range(2))
    assert torch.equal(first, second)
    mine = keys == 39_999_999
    expected, plain = (((tensors[0] * mine).to(d).sum(1) @ tensors[2].to(d)) for d in (torch.float64, torch.float32))
    assert_earned(first[-1], plain, expected, hair=64)  # thousands of terms
