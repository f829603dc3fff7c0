"""The same bytes whatever the threads, the split, the order, the caller's thread or the process."""

import multiprocessing
import subprocess
import sys
import sysconfig
import threading

import numpy as np
import pytest

from fastkd.core import Interactions
from fastkd.sampling import NegativeSampler, _backends

NATIVE = pytest.mark.skipif(_backends.obstacle("native") is not None, reason="fastkd._native is not built")
FAST = [pytest.param("native", marks=NATIVE), "numba"]


def random_interactions(num_users, num_items, seed):
    """Degrees from nothing to all items but one."""
    rng = np.random.default_rng(seed)
    seen = rng.random((num_users, num_items)) < rng.random((num_users, 1))
    seen[0], seen[-1], seen[:, 3] = False, True, False
    return Interactions.from_pairs(*np.nonzero(seen), num_users=num_users, num_items=num_items)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("replacement", [True, False])
def test_same_bytes_for_any_threads_split_and_order(backend, replacement):
    # Enough work for the threads to be used, with rows of very different cost.
    table = random_interactions(600, 997, seed=3)
    users = np.random.default_rng(0).permutation(np.repeat(np.arange(600), 2))
    options = {"epoch": 4, "replacement": replacement, "on_exhausted": "pad"}
    lists = np.random.default_rng(1).integers(-1, 997, (len(users), 20))
    whole = [
        NegativeSampler(table, backend=backend, num_threads=t).sample(users, 150, exclude_lists=lists, **options)
        for t in (1, 2, 7)
    ]
    assert whole[0].tobytes() == whole[1].tobytes() == whole[2].tobytes()
    sampler = NegativeSampler(table, backend=backend)
    for parts in (2, 7):
        split = [
            sampler.sample(u, 150, exclude_lists=x, **options)
            for u, x in zip(np.array_split(users, parts), np.array_split(lists, parts), strict=True)
        ]
        assert np.concatenate(split).tobytes() == whole[0].tobytes()
    back = sampler.sample(users[::-1], 150, exclude_lists=lists[::-1], **options)
    assert back[::-1].tobytes() == whole[0].tobytes()
    epochs = [
        NegativeSampler(table, backend=backend, num_threads=t).sample_epoch(1, epoch=1).tobytes() for t in (1, 2, 7)
    ]
    assert epochs[0] == epochs[1] == epochs[2]


@pytest.mark.parametrize("backend", FAST)
def test_concurrent_callers_get_what_a_lone_one_gets(backend):
    table = random_interactions(200, 997, seed=9)
    sampler = NegativeSampler(table, backend=backend, num_threads=2)
    alone = [sampler.sample_epoch(1, epoch=e) for e in range(4)]
    together = {}
    threads = [
        threading.Thread(target=lambda e=e: together.__setitem__(e, sampler.sample_epoch(1, epoch=e))) for e in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for e in range(4):
        np.testing.assert_array_equal(together[e], alone[e])


@NATIVE
def test_callers_at_once_share_what_is_made_on_first_use():
    # A fresh sampler each time: its tables of masses are made by whichever call is first.
    table = random_interactions(60, 97, seed=4)
    options = {"return_log_prob": True, "on_exhausted": "pad"}
    users = np.arange(60)
    expected = NegativeSampler(table, distribution="popularity", backend="native").sample(users, 40, **options)
    for _ in range(30):
        sampler = NegativeSampler(table, distribution="popularity", backend="native")
        start, found = threading.Barrier(6), []

        def draw(sampler=sampler, start=start, found=found):
            start.wait()
            found.append(sampler.sample(users, 40, **options))

        threads = [threading.Thread(target=draw) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        for ids, logs in found:
            np.testing.assert_array_equal(ids, expected[0])
            np.testing.assert_array_equal(logs, expected[1])


@NATIVE
@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_the_module_leaves_the_gil_off():
    code = "import sys, fastkd._native; sys.exit(sys._is_gil_enabled())"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def _draw_in_child(sampler, queue):
    queue.put(sampler.sample_epoch(2, epoch=1).tobytes())


@NATIVE
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_child_draws_the_same():
    table = random_interactions(400, 997, seed=9)
    sampler = NegativeSampler(table, backend="native", num_threads=2)
    expected = sampler.sample_epoch(2, epoch=1).tobytes()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_draw_in_child, args=(sampler, queue))
    child.start()
    try:
        assert queue.get(timeout=60) == expected
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
