from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import sparse

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError
from fastkd.distillation import _cooccurrence, build_method
from fastkd.distillation._cooccurrence import cooccurrence_graph, rows_of
from fastkd.distillation._projectors import Draw
from fastkd.kernels.reference.graph_filter import spectrum
from tests.contracts.interactions import random_interactions
from tests.contracts.method_contract import MethodContract
from tests.distillation.feature_golden import double, load, part, prepared
from tests.distillation.golden_numbers import compare, golden


def dense_of(graph) -> np.ndarray:
    count = len(graph.offsets) - 1
    found = np.zeros((count, count))
    for row in range(count):
        for edge in range(int(graph.offsets[row]), int(graph.offsets[row + 1])):
            found[row, int(graph.neighbours[edge])] += float(graph.weights[edge])
    return found


def by_hand(train: Interactions, strongest: int) -> np.ndarray:
    rows = [set(row.tolist()) for row in train]
    w = np.zeros((len(rows), len(rows)))
    for i in range(len(rows)):
        shared = [(-len(rows[i] & rows[j]), j) for j in range(len(rows)) if j != i and rows[i] & rows[j]]
        for _, j in sorted(shared)[:strongest]:
            w[i, j] = 1.0
    w = (w + w.T) / 2
    degrees = np.maximum(w.sum(1), 1e-12)
    return w / np.sqrt(degrees[:, None] * degrees[None, :])


class TestFreqD(MethodContract):
    name = "freqd"
    options: ClassVar = {"neighbours": 2, "experts": 2}
    sources = ("model", "embeddings")
    own_modules = True

    @pytest.mark.parametrize(("order", "normalize"), [("after", True), ("before", False)])
    def test_golden_numbers(self, order, normalize):
        case = golden("freqd")
        case.pairs_seen = case.pairs
        method = prepared(
            "freqd", case, strength=case.strength, neighbours=case.strongest, experts=2, dropout=0.0,
            edge_dropout=0.0, order=order, normalize=normalize,
        )  # fmt: skip
        for kind in ("user", "item"):
            load(method._projectors[kind], case.nets[kind])
            graph, wanted = method._graphs[kind], double(case.filters[kind])
            off = (wanted - (1 - case.strength) * torch.eye(len(wanted), dtype=torch.float64)) / case.strength
            np.testing.assert_allclose(dense_of(graph), off, rtol=1e-6, atol=1e-7)
            rows = torch.repeat_interleave(torch.arange(len(wanted)), graph.offsets.diff())
            method._graphs[kind] = graph._replace(weights=off[rows, graph.neighbours])
        sides = (
            double(case.filters["user"]) @ method._teacher.users,
            double(case.filters["item"]) @ method._teacher.items,
        )
        method._teacher = type(method._teacher)(*sides)
        compare(method, part(case, order))

    @pytest.mark.parametrize("order", ["after", "before"])
    def test_the_whole_table_gives_what_the_neighbourhoods_give(self, order, monkeypatch):
        # What other devices than the CPU do: the same edges and values are left out.
        world = self.started(order=order)
        assert world.method.config.edge_dropout == 0.5
        assert world.method.config.dropout == 0.2
        batch = world.batch(np.arange(40))
        wanted = world.loss(batch).kd.item()
        monkeypatch.setattr("fastkd.distillation.freqd._reads_neighbourhoods", lambda device: False)
        assert world.loss(batch).kd.item() == pytest.approx(wanted, rel=1e-5)

    def test_over_all_entities_it_weighs_frequencies(self):
        # One item each as positive, all of them; squared distances: Parseval's sum over the Laplacian's spectrum.
        world = self.started(edge_dropout=0.0, dropout=0.0, normalize=False, weight=1.0)
        draw, train = Draw(Seeds(0), 0, None), world.train
        entries = np.arange(train.nnz)
        batch = world.batch(entries)
        assert len(torch.unique(batch.users)) == 29
        found = world.loss(batch).parts["freqd_users"].item()
        values, vectors = spectrum(*world.method._graphs["user"], torch.float64)
        gap = world.method._projectors["user"](world.student.user_embedding, draw) - world.teacher.tables().users
        by_frequency = (1 - 0.5 * values).square() * (vectors.T @ gap.double()).square().sum(1)
        assert found == pytest.approx(by_frequency.sum().item(), rel=1e-4)

    def test_without_edge_dropout_the_teacher_is_filtered_once(self):
        world = self.started(edge_dropout=0.0, strength=0.3)
        for kind in ("user", "item"):
            table = getattr(world.teacher.tables(), f"{kind}s")
            graph = torch.from_numpy(dense_of(world.method._graphs[kind])).float()
            torch.testing.assert_close(world.method._table(kind), 0.7 * table + 0.3 * graph @ table)

    @pytest.mark.parametrize("order", ["after", "before"])
    @pytest.mark.parametrize(("edges", "values"), [(0.5, 0.0), (0.0, 0.2), (0.0, 0.0)])
    def test_each_step_leaves_out_other_edges_and_other_values(self, order, edges, values):
        world = self.started(order=order, edge_dropout=edges, dropout=values)
        batch = world.batch(np.arange(40))
        one, again, other = (world.loss(batch, step=step).kd.item() for step in (0, 0, 1))
        assert one == again
        assert (one != other) is (edges + values > 0)

    def test_edges_left_out_keep_the_mean(self):
        world = self.started()
        graph, total = world.method._graphs["user"], np.zeros((29, 29))
        for step in range(300):
            made = type("S", (), {"batch": world.batch([0]), "step": step})()
            near = world.method._neighbourhood("user", torch.arange(29), made)
            total += dense_of(near.graph)
        np.testing.assert_allclose(total / 300, dense_of(graph), atol=0.15)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"edge_dropout": 1.0}, r"edge_dropout must be a number in \[0, 1\)"),
            ({"order": "both"}, "order: 'both'"),
            ({"neighbours": 0}, "neighbours must be"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("freqd", options, Seeds(0))


@pytest.mark.parametrize("strongest", [1, 3, 50])
@pytest.mark.parametrize("paths", [1, 7, 1 << 23])
def test_the_graph_is_that_of_the_definition(strongest, paths, monkeypatch):
    monkeypatch.setattr(_cooccurrence, "_PATHS", paths)
    for train in (random_interactions(14, 9, 3), random_interactions(6, 30, 2).transpose()):
        found = dense_of(cooccurrence_graph(train, strongest))
        np.testing.assert_allclose(found, by_hand(train, strongest), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found, found.T)


def test_neighbours_are_ordered_where_no_key_holds_them():
    # (last row + 1) (most + 1) entities is past 2^63.
    rows, columns = np.array([0, 0, 0, 2_999_999, 2_999_999]), np.array([9, 5, 7, 8, 4])
    shared = sparse.coo_array((np.array([1, 3, 3, 100_000, 1]), (rows, columns)), shape=(3_000_000, 10**8))
    starts, neighbours = _cooccurrence._block(shared, 10, 10**8, 2)
    assert starts.tolist() == [10, 10, 3_000_009, 3_000_009]
    assert neighbours.tolist() == [5, 7, 8, 4]


def test_a_graph_of_strangers_is_empty():
    train = Interactions.from_pairs([0, 1, 2], [0, 1, 2], num_users=4, num_items=3)
    graph = cooccurrence_graph(train, 5)
    assert (len(graph.offsets), len(graph.neighbours)) == (5, 0)
    offsets, edges = rows_of(graph, torch.tensor([1, 3]))
    assert (offsets.tolist(), edges.tolist()) == ([0, 0, 0], [])
