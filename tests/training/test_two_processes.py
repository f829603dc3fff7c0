"""Two processes that train one student: what each draws and ranks is what one process alone would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.nn.parallel import DistributedDataParallel

from fastkd import Seeds, ops
from fastkd.data.batches import batches
from fastkd.distillation import Step, build_method
from fastkd.models import ModelConfig, ModelTeacher, build_model
from fastkd.sampling import NegativeSampler
from tests.contracts.interactions import random_interactions
from tests.contracts.method_world import bpr

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
EPOCHS, WORLD = 2, 2
METHODS = {
    "rrd": {"ranked": 5, "unranked": 6, "top": 15},
    "rce_kd": {"listed": 6, "drawn": 4, "top": 12},
    "cd": {"drawn": 3, "top": 20},
}
"""Of rows or users. Methods of entities count an item once in every process that meets it."""


def train(name: str, rank: int, world: int) -> list[torch.Tensor]:
    """Train on the rows of those users whose number leaves ``rank``; gradients are summed over all processes."""
    data = random_interactions(29, 47, 6)
    teacher = ModelTeacher(build_model(ModelConfig(dim=8, init_std=0.6), data, Seeds(7)))
    student = build_model(ModelConfig(dim=3, init_std=0.3), data, Seeds(11))
    method, sampler = build_method(name, METHODS[name], Seeds(0)), NegativeSampler(data, seed=5)
    method.prepare(teacher, student, data, epochs=EPOCHS)
    groups = [p for group in method.optimizer_groups() for p in group.parameters]
    weights = [*student.parameters(), *groups]
    optimizer = torch.optim.SGD(weights, lr=0.05)
    for epoch in range(EPOCHS):
        method.begin_epoch(epoch, student)
        negatives = sampler.sample_epoch(2, epoch=epoch)
        for step, batch in enumerate(batches(data, negatives=negatives, batch_size=40, seeds=Seeds(3), epoch=epoch)):
            own = batch.users % world == rank
            mine = type(batch)(*(t[own] for t in (batch.entries, batch.users, batch.positives, batch.negatives)))
            tables = student.tables()
            kd = method.loss(Step(batch=mine, tables=tables, epoch=epoch, step=step, base_loss=bpr)).kd
            optimizer.zero_grad()
            (bpr(tables, mine) + kd).backward()
            for weight in weights:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                if world > 1:
                    dist.all_reduce(weight.grad)
            optimizer.step()
    return [weight.detach() for weight in weights]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    try:
        found = {name: train(name, rank, WORLD) for name in METHODS}
        torch.save(found | {"draws": draws(rank, WORLD), "loss": one_ddp_step(rank)}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict[str, list[torch.Tensor]]]:
    """What each of the two came to, by the name of what it did."""
    folder = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(work, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("name", METHODS)
def test_a_student_of_two_processes_is_that_of_one(name, both):
    before = build_model(ModelConfig(dim=3, init_std=0.3), random_interactions(29, 47, 6), Seeds(11)).parameters()
    parts = both[0][name], both[1][name], train(name, 0, 1), before
    for one, other, whole, start in zip(*parts, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-5)
        assert (one - start).abs().max() > 0.01


def draws(rank: int, world: int) -> list[torch.Tensor]:
    """What a process draws and ranks for its users."""
    data = random_interactions(29, 47, 6)
    users = torch.arange(29)[rank::world]
    tables = build_model(ModelConfig(dim=8, init_std=0.6), data, Seeds(7)).frozen_tables()
    best = ops.rank_topk(tables.users[users], tables.items, 9, exclude=data.rows(users.numpy())).ids
    return [
        torch.from_numpy(np.asarray(NegativeSampler(data, seed=5).sample(users.numpy(), 4, epoch=1))),
        ops.sample_unobserved(data, users, 5, seed=1, epoch=2),
        ops.sample_ranked(users, 20, 6, temperature=3.0, seed=1, epoch=2),
        ops.gumbel(users, 7, seed=1, step=3),
        ops.dropout(tables.users[users], 0.5, seed=1, step=3, rows=users),
        best,
    ]


def test_draws_and_rankings_are_those_of_one_process(both):
    for at, whole in enumerate(draws(0, 1)):
        for rank in range(WORLD):
            assert torch.equal(both[rank]["draws"][at], whole[rank::WORLD])


class Listwise(torch.nn.Module):
    """One accelerated loss, as somebody's own module."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(2)
        self.users = torch.nn.Parameter(torch.randn(8, 5, generator=random))
        self.items = torch.nn.Parameter(torch.randn(40, 5, generator=random))

    def forward(self, users: torch.Tensor, ranked: torch.Tensor, unranked: torch.Tensor) -> torch.Tensor:
        return ops.relaxed_ranking_from_embeddings(self.users[users], self.items, ranked, unranked).mean()


def inputs() -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(4)
    return torch.arange(8), *(torch.randint(40, (8, n), generator=random) for n in (4, 6))


def one_ddp_step(rank: int) -> list[torch.Tensor]:
    model = DistributedDataParallel(Listwise())
    model(*(t[rank::WORLD] for t in inputs())).backward()
    return [p.grad for p in model.parameters()]


def test_a_loss_inside_distributed_data_parallel(both):
    alone = Listwise()
    alone(*inputs()).backward()
    for one, other, whole in zip(both[0]["loss"], both[1]["loss"], alone.parameters(), strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, whole.grad, rtol=1e-5, atol=1e-6)
