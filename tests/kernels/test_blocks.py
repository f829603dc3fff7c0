"""Blocks of BLAS and kernels: each once, on torch's threads or ours, torch alone in each; what fails is raised here."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from fastkd.kernels.numba import _blocks, _openmp
from fastkd.kernels.numba._catalogue_blocks import ITEMS, item_range, tiles, width_of


@pytest.fixture(params=[True, False], ids=["borrowed", "own"])
def two_threads(request, monkeypatch):
    monkeypatch.setattr(_openmp, "_crowded", lambda: False)
    if not request.param:
        monkeypatch.setattr(_openmp, "run", lambda work, threads: False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_every_block_runs_once_on_two_threads(two_threads):
    seen, threads = [], set()

    def work(start: int) -> None:
        seen.append(start)
        threads.add(threading.get_ident())
        time.sleep(0.005)

    _blocks.run_blocks(work, range(0, 90, 10))
    assert sorted(seen) == list(range(0, 90, 10))
    assert len(threads) == 2


def test_a_product_inside_a_block_has_the_bits_of_one_thread(two_threads):
    a, b = torch.randn(300, 200), torch.randn(200, 400)
    found = torch.empty(2, 300, 400)
    _blocks.run_blocks(lambda at: torch.mm(a, b, out=found[at]), range(2))
    torch.set_num_threads(1)
    alone = a @ b
    torch.set_num_threads(2)
    assert torch.equal(found[0], alone)
    assert torch.equal(found[1], alone)


def test_an_error_is_raised_and_ends_the_work(two_threads):
    seen: list[int] = []

    def work(start: int) -> None:
        seen.append(start)
        if start == 3:
            raise ArithmeticError("block 3")
        time.sleep(0.002)

    with pytest.raises(ArithmeticError, match="block 3"):
        _blocks.run_blocks(work, range(1000))
    assert len(seen) < 1000


@pytest.mark.parametrize(("users", "dim"), [(1, 1), (3, 400), (64, 32), (255, 20), (256, 64), (100_000, 8)])
def test_tiles_are_whole_multiples_that_cover_the_catalogue(users, dim):
    width = width_of(users, dim)
    assert width % ITEMS == 0
    assert ITEMS <= width <= 8 * ITEMS
    for items, parts in ((1, 1), (25_181, 5), (25_181, 16)):
        ranges = [item_range(part, parts, items, width) for part in range(parts)]
        covered = [i for within in ranges for first, last in tiles(*within, width) for i in range(first, last)]
        assert covered == list(range(items))


def test_few_users_have_wider_tiles():
    assert width_of(256, 64) == width_of(10_000, 64) == ITEMS
    assert width_of(64, 32) > width_of(128, 32) > ITEMS
