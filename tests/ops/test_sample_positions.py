from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastkd.core import BackendError
from fastkd.core.philox import philox4x32
from fastkd.core.seeds import Seeds
from fastkd.kernels.numba import _threads
from fastkd.ops import sample_positions

BACKENDS = ("reference", "numba")
DRAW = {"seed": 3, "epoch": 2}


def law_of(law, length, decay):
    ranks = np.arange(1, length + 1)
    if law == "uniform":
        return np.full(length, 1 / length)
    if law == "linear":
        return (2 * (length - ranks) + 1) / length**2
    weights = np.exp(-decay * ranks / length)
    return weights / weights.sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("law", "length", "decay"),
    [("uniform", 7, 1.0), ("linear", 9, 1.0), ("linear", 1, 1.0), ("exponential", 8, 3.0), ("exponential", 6, 1e-6)],
)
def test_positions_follow_the_law(backend, law, length, decay):
    found = sample_positions(4000, length, 20, law=law, decay=decay, seed=5, epoch=0, backend=backend)
    counts = np.bincount(found.numpy().ravel(), minlength=length)
    expected = law_of(law, length, decay) * counts.sum()
    # Two-sided p of 1e-6.
    assert stats.chisquare(counts, expected).pvalue > 1e-6 if length > 1 else counts[0] == 80_000


@settings(deadline=None, max_examples=40)
@given(
    users=st.lists(st.integers(0, 2**40), max_size=12),
    length=st.integers(0, 2**40),
    n=st.integers(0, 9),
    law=st.sampled_from(["uniform", "linear", "exponential"]),
    decay=st.sampled_from([1e-12, 0.5, 30.0, 700.0, 1e5]),
    seed=st.integers(0, 2**40),
)
def test_backends_agree_and_positions_are_in_the_list(users, length, n, law, decay, seed):
    ids = torch.tensor(users, dtype=torch.int64)
    lengths = torch.tensor([(u * 7 + length) % (length + 1) for u in users], dtype=torch.int64)
    options = {"law": law, "decay": decay, "seed": seed, "epoch": 1}
    a, b = (sample_positions(ids, lengths, n, **options, backend=backend) for backend in BACKENDS)
    assert torch.equal(a, b)
    assert a.shape == (len(users), n)
    for row, m in zip(a.tolist(), lengths.tolist(), strict=True):
        assert all(0 <= r < m for r in row) if m else row == [-1] * n


def test_the_stated_counters():
    user, key = 2**33 + 5, Seeds(9).key("sample_positions", 4)
    words = np.stack(philox4x32((np.arange(6), user & 0xFFFFFFFF, user >> 32, 0), key)).astype(object)
    u, v = (
        np.array([(((a >> 6) << 26 | (b >> 6)) + 0.5) / 2.0**52 for a, b in zip(*pair, strict=True)], dtype=float)
        for pair in (words[:2], words[2:])
    )
    wanted = {
        "uniform": np.floor(100 * u),
        "linear": np.minimum(np.floor(100 * u), np.floor(100 * v)),
        "exponential": np.ceil(-50 * np.log(1 - u * (1 - math.exp(-2)))) - 1,
    }
    for law, positions in wanted.items():
        found = sample_positions(torch.tensor([user]), 100, 6, law=law, decay=2.0, seed=9, epoch=4)
        assert found[0].tolist() == positions.tolist()


def test_a_draw_depends_on_user_seed_and_epoch_alone(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    whole = sample_positions(64, 500, 9, law="linear", **DRAW)
    part = torch.tensor([63, 0, 17, 17], dtype=torch.int32)
    assert torch.equal(sample_positions(part, 500, 9, law="linear", **DRAW), whole[part.long()])
    assert torch.equal(sample_positions(64, 500, 4, law="linear", **DRAW), whole[:, :4])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(sample_positions(64, 500, 9, law="linear", seed=3, epoch=3), whole)
    assert not torch.equal(sample_positions(64, 500, 9, law="linear", seed=4, epoch=2), whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": "linaer"}, "unknown law 'linaer'. Did you mean 'linear'"),
        ({"decay": 0.0}, "decay must be a finite number above 0, got 0.0"),
        ({"decay": math.inf}, "got inf"),
        ({"n": -1}, "n must be a whole number of at least 0, got -1"),
        ({"list_length": torch.tensor([3])}, "1 rows for 2 users"),
        ({"users": torch.tensor([0, -4])}, "users holds -4"),
        ({"backend": "nunba"}, "unknown backend 'nunba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"users": 2, "list_length": 5, "n": 2, "law": "uniform", **DRAW, **change}
    with pytest.raises(ValueError, match=message):
        sample_positions(arguments.pop("users"), arguments.pop("list_length"), arguments.pop("n"), **arguments)


def test_opcheck_and_compile():
    def draw(users):
        return sample_positions(users, 50, 9, law="exponential", **DRAW)

    torch.compiler.reset()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    for rows in (4, 7):
        assert torch.equal(compiled(torch.arange(rows)), draw(torch.arange(rows)))
    arguments = (torch.arange(5), torch.full((5,), 20), 4, "linear", 1.0, 1, 2, "numba")
    torch.library.opcheck(torch.ops.fastkd.sample_positions.default, arguments)


def test_triton_has_no_kernel_and_says_so():
    with pytest.raises(BackendError, match="it has no kernel for sample_positions"):
        sample_positions(2, 5, 2, law="uniform", **DRAW, backend="triton")


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("decay", [1e-7, 1e-9, 1e-15, 1e-300])
def test_a_flat_law_is_uniform(backend, decay):
    """Chi-square over 10 positions, 20,000 draws, p > 1e-4 (33.7 at 9 degrees of freedom)."""
    drawn = sample_positions(200, 10, 100, law="exponential", decay=decay, seed=4, epoch=0, backend=backend)
    counts = torch.bincount(drawn.flatten(), minlength=10).double()
    assert ((counts - 2000) ** 2 / 2000).sum() < 33.7
