"""Makes the tiny run importable by the tests of this room, fixes torch's thread count, and spares the disk."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _fixed_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    # What a killed process leaves does not depend on fsync, and waiting for it took most of the time of these tests.
    # That it is called, and that its errors count, is tested where calls are made to fail.
    real, os.fsync = os.fsync, lambda descriptor: None
    yield
    os.fsync = real
