"""The Triton kernels of ``rank_topk`` against the reference, bit for bit, through every branch of the plan."""

from __future__ import annotations

import ast
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import Interactions
from fastkd.core.capability import interpreting
from fastkd.kernels.reference import rank_topk as reference
from fastkd.kernels.triton import _topk_plan as planning
from fastkd.kernels.triton import rank_topk as kernel
from fastkd.kernels.triton._topk_math import lower_bound_of, margin, norm_of, round_bf16, threshold
from fastkd.kernels.triton._topk_plan import plan_rank_topk
from tests.contracts.backends import device_of, poisoned

INF = math.inf
DEVICE = device_of("triton")
PLAN = plan_rank_topk
pytestmark = pytest.mark.skipif(DEVICE == "cpu" and not interpreting(), reason="needs a GPU or TRITON_INTERPRET=1")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(path="user-stationary", **changes):
    """Return a planner whose buffers and segments are so small that small data reach every branch."""

    def plan(B, N, D, k, dtype, has_exclude, capability=90):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planning, "FEW_USERS", -1 if path == "user-stationary" else 10**9)
            made = PLAN(B, N, D, k, dtype, has_exclude, capability)
        block, group = 16 if made.inline else made.block_users, changes.get("group", 16)
        items = changes.get("block_items", 64)
        tile, retained = items // group, changes.get("retained", 8)
        capacity = retained + tile * changes.get("tiles", 1)
        ends, size = [], items
        while not ends or ends[-1] < N:
            ends.append(min(N, (ends[-1] if ends else 0) + size))
            size = items * changes.get("tiles", 1)
        width = changes.get("width", made.block_width)
        return dataclasses.replace(
            made, group=group, block_users=block, block_items=items, retained=retained, capacity=capacity,
            segments=tuple(ends), users_per_chunk=changes.get("users", made.users_per_chunk), block_width=width,
            width=-(-made.width // width) * width, keys=changes.get("keys", made.keys), sort_tile=16,
        )  # fmt: skip

    return plan


def run(users, items, k, seen=None, bias=None, fast=False, plan=None, few=planning.FEW_PROGRAMS):
    rows = (None, None) if seen is None else [t.to(DEVICE) for t in seen.to_torch(torch.device("cpu"))]
    bias = None if bias is None else bias.to(DEVICE)
    with pytest.MonkeyPatch.context() as patch:
        if plan is not None:
            patch.setattr(kernel, "plan_rank_topk", plan)
        patch.setattr(kernel, "new", poisoned(kernel.new))
        patch.setattr(planning, "FEW_PROGRAMS", few)
        found = kernel.rank_topk(users.to(DEVICE), items.to(DEVICE), k, *rows, bias, fast)
    return found[0].cpu(), found[1].cpu()


def assert_reference(users, items, k, seen=None, bias=None, fast=False, plan=None, **options):
    found = run(users, items, k, seen, bias, fast, plan, **options)
    if fast and users.dtype in (torch.float32, torch.float64):
        users, items = users.bfloat16(), items.bfloat16()
    rows = (None, None) if seen is None else seen.to_torch(torch.device("cpu"))
    expected = reference.rank_topk(users, items, k, *rows, bias)
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0].view(torch.int32), (expected[0] + 0.0).view(torch.int32))


def exclusions(rows, num_items, share, seed=0):
    users, items = np.nonzero(np.random.default_rng(seed).random((rows, num_items)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_equals_the_reference_bit_for_bit(data):
    draw = data.draw
    rows, num_items, dim = draw(st.integers(1, 3)), draw(st.integers(1, 200)), draw(st.integers(0, 20))
    k = draw(st.integers(1, min(num_items, 12)) | st.integers(1, num_items))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["ties", "normal", "positive"]))
    sizes = [(rows, dim), (num_items, dim)]
    tables = [random.integers(-2, 3, s) if kind == "ties" else random.normal(size=s) for s in sizes]
    scale = 1.0 if kind == "ties" else 10.0 ** draw(st.integers(-20, 18) | st.just(0))
    tables = [np.abs(t) if kind == "positive" else t for t in tables]  # positive thresholds take the integer path
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    scale = 1.0 if dtype == torch.float16 else scale
    users, items = (torch.tensor(t * scale, dtype=torch.float32).to(dtype) for t in tables)
    if dim and draw(st.integers(0, 4)) == 0:
        items[random.random(num_items) < 0.05, 0] = draw(st.sampled_from([math.nan, INF, -INF]))
    bias = None
    if draw(st.booleans()):
        bias = torch.tensor(random.normal(size=num_items), dtype=torch.float32)
        bias[random.random(num_items) < 0.3] = draw(st.sampled_from([-INF, INF, math.nan, 0.0, -1e9, -3.4e38]))
    share = draw(st.sampled_from([None, 0.02, 0.5, 0.98, 1.0]))
    seen = None if share is None else exclusions(rows, num_items, share)
    path = draw(st.sampled_from(["user-stationary", "item-streaming"]))
    changes = {"group": draw(st.sampled_from([8, 16])), "retained": draw(st.sampled_from([0, 8, 32]))}
    plan = small(path, tiles=draw(st.integers(1, 3)), keys=k + 128, **changes)
    plan, few = draw(st.sampled_from([plan, plan, None])), draw(st.sampled_from([0, planning.FEW_PROGRAMS]))
    assert_reference(users, items, k, seen, bias, draw(st.booleans()), plan, few=few)


@pytest.mark.parametrize("path", ["user-stationary", "item-streaming"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_vectors_of_no_dimension_are_all_alike(path, dtype):
    seen = exclusions(2, 150, 0.1)
    assert_reference(torch.empty(2, 0, dtype=dtype), torch.empty(150, 0, dtype=dtype), 20, seen, plan=small(path))


@pytest.mark.parametrize(("order", "k"), [("ascending", 3), ("descending", 3), ("equal", 3), ("equal", 100)])
def test_adversaries_of_a_running_threshold(order, k):
    values = torch.arange(100.0)
    table = {"ascending": values, "descending": -values, "equal": torch.ones(100)}[order][:, None]
    assert_reference(torch.full((1, 1), 0.5), table, k, plan=small(keys=k + 128))


def test_items_closer_than_the_filter_rounds_are_told_apart():
    users, base = normal(1, 16) * 30, normal(1, 16, seed=1)
    items = base + normal(150, 16, seed=2) * 1e-6
    assert items.bfloat16().unique(dim=0).shape[0] < 20, "the case is too easy to show anything"
    assert_reference(users, items, 20, plan=small())


def test_float16_at_both_ends_of_its_range():
    users, items = torch.sign(normal(1, 4)), torch.sign(normal(70, 4, seed=1))
    large = 65504 - 32.0 * torch.randint(0, 3, (70, 4), generator=torch.Generator().manual_seed(2))
    tiny = normal(70, 4, seed=3) * 2.0**-20  # multiples of 2^-24: subnormal
    seen = exclusions(1, 70, 0.1)
    for values, path, few in (
        (large, "user-stationary", 256),
        (tiny, "user-stationary", 0),
        (large, "item-streaming", 0),
    ):
        table = (items * values).half()
        assert table.isfinite().all()
        assert_reference((users * values[:1]).half(), table, 9, seen, plan=small(path), few=few)


@pytest.mark.parametrize(("path", "dtype"), [("user-stationary", torch.float32), ("item-streaming", torch.bfloat16)])
def test_wide_vectors_go_in_pieces(path, dtype):
    users, items = normal(1, 40).to(dtype), normal(130, 40, seed=1).to(dtype)
    assert_reference(users, items, 9, plan=small(path, width=16))


def test_a_score_that_the_filter_alone_cannot_make_is_not_passed_over():
    # In bfloat16 two products are infinite and their sum is NaN; the threshold stands by then, and 50 is the best.
    items = normal(150, 3, seed=1)
    items[130] = torch.tensor([3.4e38, -3.4e38, 50.0])
    for path in ("user-stationary", "item-streaming"):
        assert_reference(torch.ones(1, 3), items, 1, plan=small(path, retained=0))


def test_chunks_of_users_and_long_histories():
    users, items = normal(3, 4), normal(70, 4, seed=1)
    seen = exclusions(3, 70, 0.9, 3)
    assert_reference(users, items, 5, seen, plan=small(users=2))


def test_few_positive_scores_against_a_positive_threshold():
    # One item per group is far above the rest, which are negative: integer maxima must still find it.
    items = -torch.ones(160, 4)
    items[::16] = torch.linspace(1, 2, 10)[:, None]
    assert_reference(torch.ones(1, 4), items, 4, plan=small(tiles=1))


def test_margins_hold_one_item_that_the_filter_ranks_wrong():
    # bfloat16 rounds 1.00390625 to 1 and 1.0039063 up: without the margin the better item is dropped.
    items = torch.full((130, 1), 1.0)
    items[128], items[3] = 1.0038, 1.003
    assert_reference(torch.tensor([[1.0039]]), items, 1, plan=small())


def test_strides_and_ids_of_int64():
    users, items = normal(3, 12).T.contiguous().T, normal(100, 24, seed=1)[:, ::2]
    indptr, indices = torch.tensor([0, 1, 1, 3]), torch.tensor([5, 0, 99])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "plan_rank_topk", small())
        rows = [t.to(DEVICE) for t in (indptr, indices)]
        found = kernel.rank_topk(users.to(DEVICE), items.to(DEVICE), 99, *rows, None)
    expected = reference.rank_topk(users, items, 99, indptr, indices, None)
    assert torch.equal(found[1].cpu(), expected[1])


@pytest.mark.parametrize(("rows", "num_items", "k"), [(0, 5, 2), (3, 5, 0), (3, 0, 0)])
def test_empty_shapes(rows, num_items, k):
    scores, ids = run(torch.zeros(rows, 3), torch.zeros(num_items, 3), k)
    assert scores.shape == ids.shape == (rows, k)
    assert (scores.dtype, ids.dtype) == (torch.float32, torch.int64)


def test_a_catalogue_past_32_bits_is_refused():
    with pytest.raises(ValueError, match="at most 2146435072 items, got 3000000000"):
        kernel.rank_topk(torch.zeros(1, 1), torch.zeros(1, 1).expand(3_000_000_000, 1), 1, None, None, None)


# -- the certificate ------------------------------------------------------------------------------------


@triton.jit
def _bounds(u_ptr, v_ptr, un_ptr, out_ptr, D: tl.constexpr, M: tl.constexpr):
    """Store rounded operands' norms, residual norms and the margin of M pairs of vectors."""
    row = tl.arange(0, M)
    u2 = tl.zeros([M], tl.float32)
    ur2 = tl.zeros([M], tl.float32)
    v2 = tl.zeros([M], tl.float32)
    vr2 = tl.zeros([M], tl.float32)
    for d in range(D):
        u = tl.load(u_ptr + row * D + d)
        v = tl.load(v_ptr + row * D + d)
        uh = round_bf16(u)
        vh = round_bf16(v)
        tl.store(un_ptr + row * D + d, uh)
        tl.store(un_ptr + M * D + row * D + d, vh)
        u2 += u * u
        ur2 += (u - uh) * (u - uh)
        v2 += v * v
        vr2 += (v - vh) * (v - vh)
    bound = margin(norm_of(u2, D), norm_of(ur2, D), norm_of(v2, D), norm_of(vr2, D), D)
    tl.store(out_ptr + row, bound)
    score = tl.load(out_ptr + M + row)
    tl.store(out_ptr + 2 * M + row, threshold(score, bound))
    tl.store(out_ptr + 3 * M + row, lower_bound_of(score, bound))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e4, 1e9, 1e25])
@pytest.mark.parametrize("kind", ["normal", "aligned", "cancelling"])
def test_the_margin_bounds_what_the_filter_can_err(scale, kind):
    M, D = 32, 48
    random = np.random.default_rng(5)
    u, v = random.normal(size=(2, M, D)) * scale
    if kind == "aligned":  # values just below half way between bfloat16 neighbours, all of one sign
        u, v = (np.full((M, D), 1 + 2.0**-8 - 2.0**-20) * scale for _ in range(2))
    if kind == "cancelling":
        v[:, ::2] = v[:, 1::2] * u[:, 1::2] / -u[:, ::2]
    u, v = (torch.tensor(t, dtype=torch.float32) for t in (u, v))
    rounded, out = torch.zeros(2, M, D, device=DEVICE), torch.zeros(4, M, device=DEVICE)
    truth = (u.double() * v.double()).sum(1)
    out[1] = truth.float().nan_to_num(posinf=3e38, neginf=-3e38).to(DEVICE)
    with np.errstate(all="ignore"):
        _bounds[(1,)](u.to(DEVICE), v.to(DEVICE), rounded, out, D, M)
    assert torch.equal(rounded.cpu(), torch.stack([u, v]).bfloat16().float()), "not round-to-nearest-even"
    bound, score, least, low = out.cpu().double()
    filtered = (rounded[0].cpu().double() * rounded[1].cpu().double()).sum(1)
    sums = 4 * D * 2.0**-24 * (u.double().norm(dim=1) * v.double().norm(dim=1))  # what tensor cores may add
    assert ((filtered - truth).abs() + sums <= bound).all()
    finite = bound.isfinite()
    assert (finite.all() if scale <= 1e9 else not finite.any()) or scale == 1e-30
    assert (least[finite] <= (score - bound)[finite]).all()
    assert (low[finite] <= (score - bound)[finite]).all()
    if scale == 1.0 and kind == "normal":
        assert (bound < 2.0**-6 * u.norm(dim=1) * v.norm(dim=1)).all(), "a margin that filters nothing"


# -- the plan -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 100, 1000, 4096])
@pytest.mark.parametrize("N", [5000, 1_000_000, 10_000_000, 50_000_000])
@pytest.mark.parametrize("B", [1, 64, 1024, 4096, 100_000])
def test_plans_fit_their_buffers_and_their_memory(B, N, k, dtype):
    for D in (16, 64, 96, 256, 1024):
        p = plan_rank_topk(B, N, D, k, dtype, True)
        assert p.segments[-1] == N
        longest = max(b - a for a, b in zip((0, *p.segments), p.segments, strict=False))
        tiles = -(-longest // p.block_items)
        assert tiles * (p.block_items // p.group) <= p.capacity - p.retained, "a segment could overflow a buffer"
        assert all(end % p.block_items == 0 for end in p.segments[:-1])
        assert p.block_items % (4 * p.group) == 0
        assert 128 % p.group == 0
        assert p.keys >= min(k, N) + 128
        assert p.width % p.block_width == 0 if p.copies else True
        assert p.scratch_bytes <= 200 << 20
        assert p.users_per_chunk * p.chunks >= B


def test_no_launcher_waits_for_the_device():
    folder = Path(kernel.__file__).parent
    for path in (folder / "rank_topk.py", *folder.glob("_topk_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"item", "cpu", "tolist", "numpy", "nonzero", "synchronize"}, path
