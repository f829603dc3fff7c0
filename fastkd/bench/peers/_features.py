"""Feature methods' parts in plain torch, as one writes them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import dropout, embedding, linear, one_hot

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.cases._features import STRENGTH


def mixture(i: Inputs) -> Tensor:
    """All experts at once: [n, E, T] outputs, weighted and summed."""
    return _mixed(i, i["gates"])


def _mixed(i: Inputs, gates: Tensor) -> Tensor:
    hidden = torch.relu(torch.einsum("ns,ehs->neh", i["x"], i["w1"]) + i["b1"])
    outputs = torch.einsum("neh,eht->net", hidden, i["w2"]) + i["b2"]
    return torch.einsum("net,ne->nt", outputs, gates)


def choice(i: Inputs) -> Tensor:
    """All experts at once, as published code does it: a one-hot gate for each row."""
    return _mixed(i, one_hot(i["chosen"], len(i["w1"])).to(i["x"].dtype))


def choice_by_expert(point: Point, i: Inputs) -> Call:
    """Each expert on the rows that chose it."""

    def run() -> Tensor:
        found: Tensor = i["x"].new_zeros(len(i["x"]), i["w2"].shape[2])
        for expert in range(len(i["w1"])):
            rows = (i["chosen"] == expert).nonzero()[:, 0]
            hidden = torch.relu(i["x"][rows] @ i["w1"][expert].T + i["b1"][expert])
            found = found.index_copy(0, rows, hidden @ i["w2"][expert] + i["b2"][expert])
        return found

    return run


def layer(i: Inputs) -> Tensor:
    """Torch's own."""
    return linear(i["x"], i["w"], i["b"])


def dropped(i: Inputs) -> Tensor:
    """Torch's own, by its generator."""
    return dropout(i["x"], i["rate"])


def noise(i: Inputs) -> Tensor:
    """As torch's own ``gumbel_softmax`` draws it."""
    drawn: Tensor = i["rows"].new_empty((len(i["rows"]), i["columns"]), dtype=torch.float32).exponential_()
    return -drawn.log()


def graph(i: Inputs) -> Tensor:
    """Neighbours gathered, weighted and added to their rows."""
    gathered = embedding(i["neighbours"], i["x"]) * i["weights"][:, None]
    mixed = torch.zeros_like(i["x"]).index_add(0, i["rows"], gathered)
    filtered: Tensor = (1.0 - STRENGTH) * i["x"] + STRENGTH * mixed
    return filtered


def graph_as_matrix(point: Point, i: Inputs) -> Call:
    """Multiply by a sparse matrix made before the clock starts."""
    size = (point["N"], point["N"])
    where = torch.stack([i["rows"], i["neighbours"]])
    matrix = torch.sparse_coo_tensor(where, i["weights"], size, check_invariants=False).coalesce()
    return lambda: (1.0 - STRENGTH) * i["x"] + STRENGTH * torch.sparse.mm(matrix, i["x"])
