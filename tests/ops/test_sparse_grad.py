"""``sparse_grad=True`` changes how the table's gradient is held, and nothing else."""

from __future__ import annotations

import pytest
import torch

from fastkd import ops
from tests.contracts.backends import BACKENDS, device_of
from tests.contracts.closeness import assert_near
from tests.contracts.op_contract import run_fresh
from tests.ops.test_embedding_losses import CASES as EMBEDDED
from tests.ops.test_embedding_losses import IDS, tables

ITEMS, ROWS, DIM = 40, 6, 5


def ids(width, seed):
    listed = torch.randint(-1, ITEMS, (ROWS, width), generator=torch.Generator().manual_seed(seed))
    listed[:, 0] = 7  # one item of everybody's
    return listed


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


CASES = {
    "gather_dot": lambda u, v, **o: ops.gather_dot(u, v, ids(4, 1).to(u.device), **o).nan_to_num(neginf=0.0).sum(1),
    "relaxed_ranking": lambda u, v, **o: ops.relaxed_ranking_from_embeddings(
        u, v, ids(4, 1).to(u.device), ids(3, 2).to(u.device), weights=normal(ROWS, 4).square().to(u), **o
    ),
    "listnet": lambda u, v, **o: ops.listnet_from_embeddings(
        u, v, ids(5, 1).to(u.device), normal(ROWS, 5, seed=4).to(u), temperature=2.0, **o
    ),
    "pairwise": lambda u, v, **o: ops.pairwise_from_embeddings(
        u, v, ids(1, 1)[:, 0].to(u.device), ids(3, 2).to(u.device), **o
    ),
    "weighted_bce": lambda u, v, **o: ops.weighted_bce_from_embeddings(
        u, v, ids(4, 1).to(u.device), normal(ROWS, 4, seed=4).sigmoid().to(u), **o
    ),
    "soft_bce": lambda u, v, **o: ops.soft_bce_from_embeddings(
        u, v, ids(4, 1).to(u.device), normal(ROWS, 4, seed=4).to(u), **o
    ),
    "lambda_pairs": lambda u, v, **o: ops.lambda_pairs_from_embeddings(
        u, v, ids(5, 1).to(u.device), normal(ROWS, 5, seed=4).square().to(u), weights="lambdaloss", **o
    ),
    "sampled_softmax": lambda u, v, **o: ops.sampled_softmax(
        u, v, ids(2, 1).to(u.device), ids(4, 2).to(u.device), log_q=normal(ROWS, 4, seed=4).to(u), **o
    ),
}


def run(name, backend, *, sparse, dtype=torch.float64, users_need=True):
    device = device_of(backend)
    users = normal(ROWS, DIM, dtype=dtype).to(device).requires_grad_(users_need)
    items = normal(ITEMS, DIM, seed=1, dtype=dtype).to(device).requires_grad_()
    loss = CASES[name](users, items, sparse_grad=sparse, backend=backend)
    loss.backward(torch.linspace(-1, 2, ROWS, dtype=loss.dtype, device=device))
    return loss.detach(), users.grad, items.grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_dense_gradient_in_rows(name, backend):
    loss, users, rows = run(name, backend, sparse=True)
    same_loss, same_users, dense = run(name, backend, sparse=False)
    assert rows.layout is torch.sparse_coo
    assert torch.equal(loss, same_loss)
    assert_near(users, same_users)
    assert_near(rows.to_dense(), dense)
    touched = rows._indices()[0].unique().tolist()
    assert 7 in touched
    assert len(touched) < ITEMS
    assert all(0 <= row < ITEMS for row in touched)


@pytest.mark.parametrize("name", CASES)
def test_half_tables_and_users_that_want_nothing(name):
    _, users, rows = run(name, "numba", sparse=True, dtype=torch.bfloat16, users_need=False)
    assert users is None
    assert rows.dtype == torch.bfloat16


def test_two_losses_on_one_table_add_up():
    users = normal(ROWS, DIM)
    tables = [normal(ITEMS, DIM, seed=1).requires_grad_() for _ in range(2)]
    for table, sparse in zip(tables, (True, False), strict=True):
        both = [CASES[name](users, table, sparse_grad=sparse) for name in ("gather_dot", "relaxed_ranking")]
        (both[0] + 3 * both[1]).sum().backward()
    assert tables[0].grad.layout is torch.sparse_coo
    assert_near(tables[0].grad.to_dense(), tables[1].grad)


LOSSES = [name for name in EMBEDDED if not name.startswith("catalogue")]


# torch, of what comes to it behind a break in the graph
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(("name", "backend"), [*((name, "auto") for name in LOSSES), ("weighted_bce", "reference")])
def test_the_compiler_leaves_it_to_python(name, backend):
    def call(users, items):
        return 2 * EMBEDDED[name](users + 0.5, items, IDS, sparse_grad=True, backend=backend).sum()

    torch.compiler.reset()
    found = []
    for function in (call, torch.compile(call, backend="aot_eager")):
        users, items = (t.requires_grad_() for t in tables(torch.float64))
        loss = function(users, items)
        loss.backward()
        assert items.grad.layout is torch.sparse_coo
        found.append((loss.detach(), users.grad, items.grad.to_dense()))
    for eager, compiled in zip(*found, strict=True):
        assert torch.equal(eager, compiled)


@pytest.mark.parametrize("name", ["gather_dot", "relaxed_ranking", "sampled_softmax"])
def test_a_whole_graph_says_that_it_cannot_be_compiled(name):
    def call(users, items):
        return EMBEDDED[name](users, items, IDS, sparse_grad=True)

    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="sparse_grad=True cannot be compiled; leave out fullgraph"):
        compiled(*(t.requires_grad_() for t in tables()))


def test_eager_calls_do_not_load_the_compiler():
    code = (
        "import sys, torch; from fastkd import ops; i = torch.zeros(1, 1, dtype=torch.int64);"
        "t = torch.ones(1, 2, requires_grad=True); ops.gather_dot(t, t, i, sparse_grad=True);"
        "print('torch._dynamo' in sys.modules)"
    )
    assert run_fresh(code) == "False"


def test_where_it_cannot_be_it_is_refused():
    users, items = normal(ROWS, DIM), normal(ITEMS, DIM).requires_grad_()
    with pytest.raises(ValueError, match="needs items to be a leaf"):
        ops.gather_dot(users, 2 * items, ids(4, 1), sparse_grad=True)
    with torch.no_grad():
        assert not ops.gather_dot(users, 2 * items, ids(4, 1), sparse_grad=True).requires_grad
