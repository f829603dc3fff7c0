"""A run killed at any instant resumes, and ends with the bytes of a run that was never killed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from test_resume import outcome
from tiny_run import Dead, Watch, crash_trainer, dying

from fastkd.training.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run without a crash, and the file-system calls it makes."""
    crash_trainer(None).fit()  # kernels are compiled, so that their caches are not counted
    folder = tmp_path_factory.mktemp("straight")
    seen, undo = dying(0, kill=False)
    try:
        crash_trainer(folder).fit()
    finally:
        undo()
    return outcome(folder), seen


def end_at(call, folder, watch=None):
    """Run until the n-th file-system call; return what the process died in, or None if it got through."""
    seen, undo = dying(call, kill=False)
    try:
        crash_trainer(folder, watch).fit()
    except Dead:
        return seen[-1]
    finally:
        undo()
    return None


def check_complete(folder):
    """Both names, where they are, lead to checkpoints whose every byte is right."""
    for name in ("last", "best"):
        link = folder / "checkpoints" / name
        if link.is_symlink():
            read_checkpoint(link)


def check_equal(folder, wanted):
    found = outcome(folder)
    for key in wanted | found:
        assert found.get(key) == wanted.get(key), key


def die_and_resume(folder, points, wanted):
    died_in = set()
    for call in points:
        first, second = Watch(), Watch()
        died_in.add(end_at(call, folder / str(call), first))
        check_complete(folder / str(call))
        crash_trainer(folder / str(call), second).fit()
        if second.first_step is not None:  # None: it died after it had written its result
            assert second.first_step - (first.saved or 0) in (0, 1), "a checkpoint that had been made was lost"
        check_equal(folder / str(call), wanted)
    return died_in


def test_death_at_many_file_system_calls(tmp_path, straight):
    wanted, calls = straight
    random, points = np.random.default_rng(2), []
    for name in set(calls):
        of_name = [n for n, called in enumerate(calls, 1) if called == name]
        points += random.permutation(of_name)[:12].tolist()
    died_in = die_and_resume(tmp_path, points, wanted)
    assert died_in == set(calls) >= {"open", "write", "fsync", "mkdir", "rename", "replace", "symlink", "rmdir"}


@pytest.mark.slow
def test_death_at_every_file_system_call(tmp_path, straight):
    wanted, calls = straight
    assert None not in die_and_resume(tmp_path, range(1, len(calls) + 1), wanted)


def test_death_again_and_again_in_one_run(tmp_path, straight):
    wanted, calls = straight
    random, sessions = np.random.default_rng(0), 0
    while end_at(int(random.integers(5, len(calls) // 2)), tmp_path) is not None:
        check_complete(tmp_path)
        sessions += 1
        assert sessions < 200
    assert sessions > 1
    check_equal(tmp_path, wanted)


def killed(folder, calls):
    """Run :func:`tiny_run.main` in a process of its own."""
    command = [sys.executable, tiny_run.__file__, str(folder), *map(str, calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_kills(folder, calls, wanted):
    for call, first, second in killed(folder, calls):
        assert (first, second) == (-9, 0), f"killed at call {call}"
        check_equal(folder / str(call), wanted)


def test_kill_minus_nine(tmp_path, straight):
    wanted, calls = straight
    check_kills(tmp_path, range(len(calls) // 9, len(calls), len(calls) // 8), wanted)


@pytest.mark.slow
def test_kill_minus_nine_at_two_hundred_points(tmp_path, straight):
    wanted, calls = straight
    points = np.random.default_rng(1).choice(np.arange(1, len(calls) + 1), size=200, replace=False)
    check_kills(tmp_path, sorted({int(p) for p in points}), wanted)
