"""What feature methods are made of: mixtures of experts, maps for each row, distances of topologies, a graph filter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.same import close, kept_share, standard_gumbel
from fastkd.core import Seeds
from fastkd.kernels.reference.topology_distance import prototype_distance as prototypes_in_full

NEGLIGIBLE = 2.0**-24
"""What the methods pass: gates that cannot move a float32 sum."""

STRENGTH = 0.5

RATE = 0.2

EXPERTS = ("x", "w1", "b1", "w2", "b2")


def _normal(seed: int, device: str, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Return normal tensors, weights (``w...``) scaled by their last width so that no layer blows up."""
    made = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=Seeds(seed).torch(name))
        made[name] = (values / shape[-1] ** 0.5 if name.startswith("w") else values).to(device)
    return made


def _experts(point: Point, seed: int, device: str) -> Inputs:
    n, e, s, h, t = (point[letter] for letter in "BESHT")
    made: Inputs = _normal(seed, device, x=(n, s), w1=(e, h, s), b1=(e, h), w2=(e, h, t), b2=(e, t), gates=(n, e))
    made["chosen"] = made["gates"].argmax(1)
    made["gates"] = made["gates"].softmax(1)
    for name in (*EXPERTS, "gates"):
        made[name].requires_grad_()
    return made


def _mixture(i: Inputs, backend: str) -> Tensor:
    parts = (i[name] for name in EXPERTS)
    return ops.expert_mixture(*parts, gates=i["gates"], negligible=NEGLIGIBLE, backend=backend)


def _choice(i: Inputs, backend: str) -> Tensor:
    parts = [i[name] for name in EXPERTS]
    if backend == "reference":
        gates = functional.one_hot(i["chosen"], len(i["w1"])).to(i["x"].dtype)
        return ops.expert_mixture(*parts, gates=gates, backend=backend)
    return ops.expert_choice(*parts, chosen=i["chosen"])


def _held(point: Point) -> float:
    """Return the numbers of rows, experts and gates."""
    n, e, s, h, t = (point[letter] for letter in "BESHT")
    return float(n * (s + e) + e * (h * (s + 1) + t * (h + 1)))


def _mixture_forward(point: Point) -> Work:
    """Two products for each row and expert, hidden units scaled by their gate; unit: rows x experts."""
    n, e, s, h, t = (point[letter] for letter in "BESHT")
    return Work(n * e * (2.0 * h * (s + t) + h + 2.0 * t), 4.0 * (_held(point) + n * t), float(n * e))


def _twice(forward: Any) -> Any:
    """Return the work of a backward pass of products: two for each; what was read is read again and its gradient made.

    A layer's weight gradient and its input's are a product each, of the forward product's size.
    """

    def backward(point: Point) -> Work:
        once: Work = forward(point)
        return Work(2.0 * once.flops, 2.0 * once.bytes, once.units)

    return backward


def _choice_forward(point: Point) -> Work:
    """Return one expert for each row; unit: rows."""
    n, e, s, h, t = (point[letter] for letter in "BESHT")
    return Work(n * (2.0 * h * (s + t) + h + t), 4.0 * (_held(point) - n * e + n * t) + 8.0 * n, float(n))


def _maps(point: Point, seed: int, device: str) -> Inputs:
    n, s, t, c, h = (point[letter] for letter in "BSTCH")
    shapes = {"x": (n, s), "context": (n, c), "w1": (h, c), "b1": (h,), "w2": (t * s, h), "b2": (t * s,)}
    return {name: tensor.requires_grad_() for name, tensor in _normal(seed, device, **shapes).items()}


def _mapped(i: Inputs, backend: str) -> Tensor:
    return ops.hyper_projection(i["x"], i["context"], i["w1"], i["b1"], i["w2"], i["b2"], backend=backend)


def _maps_forward(point: Point) -> Work:
    """Make T S numbers of a map for each row from H hidden units, and use them; maps are not written; unit: rows."""
    n, s, t, c, h = (point[letter] for letter in "BSTCH")
    numbers = n * (s + c + t) + h * (c + 1) + t * s * (h + 1)
    return Work(2.0 * n * (h * (c + t * s) + t * s), 4.0 * numbers, float(n))


def _layer(point: Point, seed: int, device: str) -> Inputs:
    n, s, t = (point[letter] for letter in "BST")
    made = _normal(seed, device, x=(n, s), w=(t, s), b=(t,))
    return {name: tensor.requires_grad_() for name, tensor in made.items()}


def _layer_forward(point: Point) -> Work:
    """One product; unit: rows."""
    n, s, t = (point[letter] for letter in "BST")
    return Work(2.0 * n * s * t, 4.0 * (n * (s + t) + t * (s + 1)), float(n))


def _rows(point: Point, seed: int, device: str) -> Inputs:
    made: Inputs = _normal(seed, device, x=(point["B"], point["D"]))
    return {"x": made["x"].requires_grad_(), "rate": RATE}


def _dropped(i: Inputs, backend: str) -> Tensor:
    return ops.dropout(i["x"], i["rate"], seed=0, step=0, backend=backend)


def _ids(point: Point, seed: int, device: str) -> Inputs:
    ids = torch.randint(1 << 40, (point["B"],), generator=Seeds(seed).torch("ids"))
    return {"rows": ids.to(device), "columns": point["E"]}


def _noise(i: Inputs, backend: str) -> Tensor:
    return ops.gumbel(i["rows"], i["columns"], seed=0, step=0, backend=backend)


def _noise_work(point: Point) -> Work:
    """Two logarithms a draw, 20 operations each; an id read a row; unit: draws."""
    draws = float(point["B"] * point["E"])
    return Work(40.0 * draws, 4.0 * draws + 8.0 * point["B"], draws)


def _dropout_work(point: Point) -> Work:
    """Every value read and written; the same both ways; unit: values."""
    values = float(point["B"] * point["D"])
    return Work(values, 8.0 * values, values)


def _vectors(point: Point, seed: int, device: str) -> Inputs:
    """Make a student that is a part of the teacher's columns with noise, and groups as routing makes them."""
    n, s, t = point["B"], point["S"], point["T"]
    made: Inputs = _normal(seed, device, teacher=(n, t), noise=(n, s))
    student = (made["teacher"][:, :s] + made.pop("noise")).contiguous().requires_grad_()
    groups = torch.randint(max(point["G"], 1), (n,), generator=Seeds(seed).torch("groups")).to(device)
    return {**made, "student": student, "groups": groups if point["G"] else None, "count": point["G"]}


def _topology(i: Inputs, backend: str) -> Tensor:
    grouped = i["groups"] is not None
    options = {"groups": i["groups"], "positive_only": grouped, "backend": backend}
    return ops.topology_distance(i["student"], i["teacher"], **options).loss


def _topology_forward(point: Point) -> Work:
    """All pairs: Gram matrices of the widths. Within groups, positive ones only: a cosine a pair; unit: pairs."""
    n, s, t, groups = (point[letter] for letter in "BSTG")
    pairs = n * n / max(groups, 1)
    flops = 2.0 * pairs * (s + t) if groups else 2.0 * n * (s * s + t * t + s * t)
    return Work(flops, 4.0 * n * (s + t) + (8.0 * n if groups else 0.0), pairs)


def _topology_backward(point: Point) -> Work:
    n, s, t, groups = (point[letter] for letter in "BSTG")
    pairs = n * n / max(groups, 1)
    flops = 2.0 * pairs * s if groups else 4.0 * n * s * (s + t)
    return Work(flops, 4.0 * n * (2 * s + (0 if groups else t)), pairs)


def _prototypes(i: Inputs, backend: str) -> Tensor:
    if backend == "reference":
        student, teacher = i["student"].double(), i["teacher"].double()
        return prototypes_in_full(student, teacher, i["groups"], i["count"], None, True, False)[0].to(torch.float32)
    return ops.prototype_distance(i["student"], i["teacher"], groups=i["groups"], count=i["count"]).loss


def _prototype_forward(point: Point) -> Work:
    """Every row added to its group's mean, then a cosine with each mean; unit: rows x groups."""
    n, s, t, groups = (point[letter] for letter in "BSTG")
    return Work(n * (s + t) * (1.0 + 2.0 * groups), 4.0 * n * (s + t) + 8.0 * n, float(n * groups))


def _prototype_backward(point: Point) -> Work:
    n, s, groups = point["B"], point["S"], point["G"]
    return Work(2.0 * n * groups * s, 8.0 * n * s, float(n * groups))


def _graph(point: Point, seed: int, device: str) -> Inputs:
    """Make a symmetric graph of about K neighbours a node, normalised symmetrically, and vectors on its nodes."""
    pairs = torch.randint(point["N"], (2, point["N"] * point["K"] // 2), generator=Seeds(seed).torch("graph"))
    rows, neighbours = torch.cat([pairs, pairs.flip(0)], 1)
    order = rows.argsort(stable=True)
    rows, neighbours = rows[order], neighbours[order]
    degrees = torch.bincount(rows, minlength=point["N"])
    root = degrees.clamp(min=1).float().rsqrt()
    made: Inputs = _normal(seed, device, x=(point["N"], point["D"]))
    graph = {"offsets": functional.pad(degrees.cumsum(0), (1, 0)), "neighbours": neighbours, "rows": rows}
    graph["weights"] = root[rows] * root[neighbours]
    return {"x": made["x"].requires_grad_(), **{name: tensor.to(device) for name, tensor in graph.items()}}


def _filtered(i: Inputs, backend: str) -> Tensor:
    return ops.graph_filter(i["x"], i["offsets"], i["neighbours"], i["weights"], strength=STRENGTH, backend=backend)


def _filter_work(point: Point) -> Work:
    """Count a multiply-add for each edge and column, graph and vectors read once; the same both ways; unit: edges."""
    edges = 2 * (point["N"] * point["K"] // 2)
    moved = 8.0 * point["N"] * point["D"] + 12.0 * edges + 8.0 * point["N"]
    return Work((2.0 * edges + 3.0 * point["N"]) * point["D"], moved, float(edges))


def _case(name: str, summary: str, tests: str, **parts: Any) -> Case:
    return Case(name=name, summary=summary, tests=(f"tests/ops/{tests}.py",), **{"same": close, **parts})


FEATURES = (
    _case(
        "expert_mixture", "E two-layer experts of each row, mixed by its gates", "test_expert_mixture",
        make=_experts, call=_mixture, work=_mixture_forward, backward=_twice(_mixture_forward),
        leaves=(*EXPERTS, "gates"), unit="experts", check=at(B=23, E=5, S=7, H=9, T=11),
        points=(at("cpu", B=1024, E=30, S=20, H=210, T=400), at("cuda", B=8192, E=30, S=64, H=160, T=256)),
    ),
    _case(
        "expert_choice", "one of E two-layer experts for each row", "test_expert_mixture",
        make=_experts, call=_choice, work=_choice_forward, backward=_twice(_choice_forward), leaves=EXPERTS,
        unit="rows", check=at(B=23, E=5, S=7, H=9, T=11),
        points=(at("cpu", B=1024, E=30, S=20, H=210, T=400), at("cuda", B=8192, E=30, S=64, H=160, T=256)),
    ),
    _case(
        "hyper_projection", "a map of its own for each row, made by a hyper-network", "test_hyper_projection",
        make=_maps, call=_mapped, work=_maps_forward, backward=_twice(_maps_forward),
        leaves=("x", "context", "w1", "b1", "w2", "b2"), unit="rows", check=at(B=13, S=5, T=7, C=6, H=9),
        points=(at("cpu", B=1024, S=20, T=100, C=100, H=525), at("cuda", B=4096, S=20, T=400, C=400, H=1024)),
    ),
    _case(
        "linear", "one map of all rows: a projector's layer", "test_linear",
        make=_layer, call=lambda i, backend: ops.linear(i["x"], i["w"], i["b"], backend=backend),
        work=_layer_forward, backward=_twice(_layer_forward), leaves=("x", "w", "b"), unit="rows",
        check=at(B=700, S=90, T=71),
        points=(
            at("cpu", B=4096, S=500, T=100), at("cpu", B=4096, S=20, T=2000), at("cuda", B=16_384, S=512, T=256),
        ),
    ),
    _case(
        "dropout", "values left out by counters", "test_dropout",
        make=_rows, call=_dropped, work=_dropout_work, backward=_dropout_work, leaves=("x",), unit="values",
        same=kept_share, check=at(B=53, D=37),
        points=(at("cpu", B=4096, D=500), at("cpu", B=4096, D=10), at("cuda", B=65_536, D=1024)),
    ),
    _case(
        "gumbel", "noise of a routing", "test_gumbel",
        make=_ids, call=_noise, work=_noise_work, unit="draws", same=standard_gumbel, check=at(B=53, E=7),
        points=(at("cpu", B=4096, E=30), at("cuda", B=65_536, E=30)),
    ),
    _case(
        "topology_distance", "how far all cosines of n vectors are from a teacher's; G: within groups, positive ones",
        "test_topology_distance",
        make=_vectors, call=_topology, work=_topology_forward, backward=_topology_backward, leaves=("student",),
        unit="pairs", check=at(B=41, S=5, T=9, G=3),
        points=(
            at("cpu", B=4096, S=20, T=400, G=0), at("cpu", B=4096, S=20, T=400, G=60),
            at("cuda", B=16_384, S=64, T=256, G=0), at("cuda", B=16_384, S=64, T=256, G=60),
        ),
    ),
    _case(
        "prototype_distance", "how far the cosines of n vectors with G group means are from a teacher's",
        "test_topology_distance",
        make=_vectors, call=_prototypes, work=_prototype_forward, backward=_prototype_backward, leaves=("student",),
        unit="cosines", check=at(B=41, S=5, T=9, G=4),
        points=(at("cpu", B=4096, S=20, T=400, G=60), at("cuda", B=16_384, S=64, T=256, G=60)),
    ),
    _case(
        "graph_filter", "a low-pass filter over K neighbours a node", "test_graph_filter",
        make=_graph, call=_filtered, work=_filter_work, backward=_filter_work, leaves=("x",), unit="edges",
        check=at(N=53, D=7, K=4),
        points=(
            at("cpu", N=25_181, D=400, K=10), at("cpu", N=1_000_000, D=32, K=10),
            at("cuda", N=1_000_000, D=64, K=10),
        ),
    ),
)  # fmt: skip
