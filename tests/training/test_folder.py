import subprocess
import sys

import pytest

from fastkd.core import TrainingError
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
