import shutil
import subprocess
import sys

import pytest
import torch
from tiny_run import tiny_trainer

from fastkd.core import CheckpointError, TrainingError
from fastkd.training import Callback
from fastkd.training.folder import RunFolder

HOLDER = """
import sys
from pathlib import Path
from fastkd.training.folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_dead_one_holds_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(TrainingError, match=rf"another process is training in {folder.path}"), folder.lock():
            pass
        child.kill()
        child.wait()
    with folder.lock():
        pass
    with folder.lock():
        pass


def test_what_counts_as_a_run(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.holds_run()
    folder.metrics.write_text("")
    folder.config.write_text("")
    assert not folder.holds_run(), "a run that died before its first checkpoint starts anew"
    folder.last.mkdir(parents=True)
    assert folder.holds_run()
    assert folder.outcome() == folder.last
    folder.best.mkdir()
    assert folder.outcome() == folder.best


@pytest.mark.parametrize("finished", [True, False])
def test_a_copy_without_links_goes_on_where_the_run_was(tmp_path, finished):
    class Stops(Callback):
        def on_epoch_start(self, epoch):
            if epoch == 4 and not finished:
                raise KeyboardInterrupt

    whole = tiny_trainer(tmp_path / "whole", epochs=6)
    result = whole.fit()
    first = tiny_trainer(tmp_path / "run", epochs=6, callbacks=(Stops(),))
    if finished:
        first.fit()
    else:
        with pytest.raises(KeyboardInterrupt):
            first.fit()
    folder = RunFolder(tmp_path / "run")
    names = {link: link.resolve().name for link in (folder.best, folder.last)}
    for link in names:
        link.unlink()
    again = tiny_trainer(tmp_path / "run", epochs=6)
    assert again.fit("must").best_metrics == result.best_metrics
    assert torch.equal(again.student.items, whole.student.items)
    if finished:
        assert {link: link.resolve().name for link in names} == names


def test_a_copy_that_lost_its_best_checkpoint_is_refused(tmp_path):
    tiny_trainer(tmp_path, epochs=6).fit()
    folder = RunFolder(tmp_path)
    best = folder.best.resolve()
    if best == folder.last.resolve():
        pytest.skip("the last epoch was the best")
    folder.best.unlink()
    folder.last.unlink()
    shutil.rmtree(best)
    with pytest.raises(CheckpointError, match="lost its links, and with them its best checkpoint, that of epoch"):
        tiny_trainer(tmp_path, epochs=6).fit()
