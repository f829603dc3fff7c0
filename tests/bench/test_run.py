"""The runner: peers are checked before they are timed, who cannot run is named, figures fit together."""

from dataclasses import replace

import pytest
import torch

from fastkd.bench import CASES, Roofline, Settings, chosen, clock, run
from fastkd.bench.case import Part, at
from fastkd.bench.cases._rows import LR, losses, rotating
from fastkd.bench.peers import NAMES, Foreign, Peer, Unable, peer_named
from fastkd.bench.run import run_point
from fastkd.core import ConfigError

ROOF = Roofline(1e10, {"float32": 1e11}, 1)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(clock, "SETTLE", 0.0)
    monkeypatch.setattr(clock, "FEWEST", 2)
    monkeypatch.setattr(run, "SETS", 2)


def rows_of(name, point, against=("torch",), passes=("forward", "backward", "both")):
    return list(run_point(CASES[name], point, Settings(against=against, passes=passes, seconds=0.0), ROOF))


SMALL = {
    "rank_topk": at(B=6, N=300, D=8, K=4, seen=3),
    "rank_of": at(B=5, N=300, D=8, C=3),
    "relaxed_ranking_from_embeddings": at(B=6, N=200, D=8, K=3, L=4),
    "catalogue_softmax": at(B=5, N=200, D=8, K=3),
    "sample_rank_discrepancy": at(B=3, N=200, T=8, D=4, n=3),
    "sample_softmax": at(B=3, N=200, D=4, n=3),
    "negatives_uniform": at(U=9, B=7, N=300, seen=5, n=3),
    "training_step": at(B=6, N=200, D=8, K=3, L=4),
}


def test_an_unknown_pass_is_named():
    with pytest.raises(ConfigError, match=r"passes\[1\]: 'forwrad' is not allowed\. Did you mean 'forward'"):
        Settings(passes=("both", "forwrad"))


@pytest.mark.parametrize("name", SMALL)
def test_torch_computes_the_same_and_both_are_timed(name):
    rows = rows_of(name, SMALL[name], passes=("both",))
    assert [row["contender"] for row in rows] == ["fastkd", "torch"]
    assert all(0 < row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"] for row in rows)
    assert rows[1]["over_fastkd"] == pytest.approx(rows[1]["p50_ms"] / rows[0]["p50_ms"])


def test_numpy_ranks_and_draws_the_same():
    for name in ("rank_topk", "negatives_uniform"):
        assert [row["contender"] for row in rows_of(name, SMALL[name], ("numpy",))] == ["fastkd", "numpy"]


def test_each_pass_has_its_rows_and_its_work():
    rows = rows_of("relaxed_ranking_from_embeddings", SMALL["relaxed_ranking_from_embeddings"], against=())
    assert [row["pass"] for row in rows] == ["forward", "backward", "both"]
    forward, backward, both = (row["flops"] for row in rows)
    assert forward + backward == both
    row = rows[0]
    assert row["gflop_per_s"] == pytest.approx(row["flops"] / row["p50_ms"] / 1e6)
    assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["p50_ms"] / 1e6)
    assert row["share"] == pytest.approx(row["floor_ms"] / row["p50_ms"])
    assert row["floor_ms"] == pytest.approx(1e3 * max(row["bytes"] / 1e10, row["flops"] / 1e11))


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch):
    wrong = Peer("torch", "torch", "torch", {"rank_topk": {"": lambda point, i: lambda: i["made_up"]}})
    off = Peer("torch", "torch", "torch", {"rank_topk": {"": lambda point, i: lambda: [[0] * 4] * 6}})
    for peer, why in ((wrong, "KeyError"), (off, "ranks other items: not timed")):
        monkeypatch.setattr(run, "peer_named", lambda name, peer=peer: peer)
        skipped, ours = rows_of("rank_topk", SMALL["rank_topk"])
        assert why in skipped["skipped"]
        assert ours["contender"] == "fastkd"


def test_the_quickest_variant_is_timed(monkeypatch):
    from fastkd.bench.peers._torch import topk

    def slow(point, i):
        call = topk(32, point, i)
        return lambda: (sum(range(2_000_000)), call())[1]

    both = Peer("torch", "torch", "torch", {"rank_topk": {"slow": slow, "quick": lambda p, i: topk(32, p, i)}})
    monkeypatch.setattr(run, "peer_named", lambda name: both)
    assert rows_of("rank_topk", SMALL["rank_topk"])[1]["variant"] == "quick"


@pytest.mark.parametrize(("rule", "off"), [(torch.optim.SGD, "items that are off by"), (torch.optim.Adam, None)])
def test_a_training_step_is_compared_by_where_its_rows_go(rule, off):
    case, i = CASES["training_step"], CASES["training_step"].make(SMALL["training_step"], 0, "cpu")

    def make(table, users):
        items, others = rule([table], lr=LR), torch.optim.Adam([users], lr=LR)

        def step(ids):
            loss = losses(users, table, ids, i["ranked"], sparse_grad=False)
            loss.backward()
            items.step()
            others.step()
            return loss

        return step

    wrong = case.same(case.call(i, "auto"), rotating(i, make)(), i)
    assert wrong == off if off is None else str(wrong).startswith(off)
    assert case.call(i, "auto").turn == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_peer_loads_and_gives_a_reason_for_what_it_cannot_do(name):
    peer = peer_named(name)
    assert peer.name == name
    reasons = []
    for case in CASES:
        try:
            assert peer.variants(case, "cpu")
        except Foreign:
            continue
        except Unable as reason:
            reasons.append(str(reason))
    assert all("not installed (pip install" in reason or "only" in reason for reason in reasons)


def test_a_job_of_which_a_part_was_run_is_scaled_and_says_so(monkeypatch):
    part = Part(lambda: sum(range(300_000)), 1e4, "2 of 20,000 steps, scaled")
    peer = Peer("published", "torch", "torch", {"rrd_epoch": {"dense": lambda point, i: part}})
    monkeypatch.setattr(run, "peer_named", lambda name: peer)
    case = replace(
        CASES["rrd_epoch"], make=lambda p, seed, device: {"made": {}}, same=lambda *_: None,
        call=lambda i, backend: sum(range(300_000)),
    )  # fmt: skip
    _, theirs = run_point(case, case.points[0], Settings(against=("published",)), ROOF)
    assert 100 < theirs["over_fastkd"] < 1e6  # the same work a second time, ten thousand times: no clock is that wrong
    assert theirs["note"] == "2 of 20,000 steps, scaled"


def test_an_epoch_of_rrd_starts_at_the_loss_of_its_peers():
    point = at(U=60, N=2000, D=8, seen=5, B=100, K=5, L=6, top=20)
    rows = rows_of("rrd_epoch", point, ("torch", "published"))
    assert [(row["contender"], row["variant"]) for row in rows if "p50_ms" in row] == [
        ("fastkd", ""), ("torch", "SparseAdam"), ("torch", "dense Adam"), ("published", "dense Adam"),
    ]  # fmt: skip


def test_an_evaluation_finds_the_number_that_its_peer_finds():
    rows = rows_of("evaluation", at(U=40, N=900, D=8, K=10, seen=4))
    assert [row["contender"] for row in rows if "p50_ms" in row] == ["fastkd", "torch"]


def test_points_are_chosen_by_device_and_length():
    case = CASES["training_step"]
    assert all("slow" not in p.tags for p in chosen(case, "cpu", quick=False, sweep=False, slow=False))
    assert len(chosen(case, "cpu", quick=False, sweep=False, slow=True)) == 5
    assert chosen(case, "cpu", quick=True, sweep=False, slow=False) == case.points[:1]
    assert chosen(case, "cpu", quick=False, sweep=True, slow=False) == case.swept()
    assert {p["N"] for p in chosen(case, "cuda", quick=False, sweep=False, slow=False)} == {1_000_000}
