"""Large memory pages: values stay, the system is asked, and where it cannot be asked the answer is no."""

import mmap
from pathlib import Path

import pytest
import torch

from fastkd.core import pages, use_large_pages

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SIZE = 8 * pages.SMALLEST


def test_values_stay_and_the_pages_grow():
    if not ENABLED.exists() or "[never]" in ENABLED.read_text():
        pytest.skip("this system hands out no large pages")
    table = torch.arange(SIZE // 4, dtype=torch.int32).view(-1, 32)
    expected = table.clone()
    assert use_large_pages(table)
    assert torch.equal(table, expected)
    assert "hg" in flags(table.data_ptr() + SIZE // 2)


def test_memory_that_was_never_written_stays_zero():
    table = torch.zeros(SIZE // 4)
    use_large_pages(table)
    assert not table.any()


def test_small_tables_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    asked = requests(monkeypatch, answer=0)
    assert not use_large_pages(torch.zeros(pages.SMALLEST // 4 - 1))
    assert not use_large_pages(torch.zeros(0))
    assert not use_large_pages(torch.empty(SIZE, device="meta"))
    assert asked == []


def test_the_whole_inside_is_asked_for_and_nothing_outside(monkeypatch: pytest.MonkeyPatch):
    asked = requests(monkeypatch, answer=0)
    table = torch.empty(SIZE, dtype=torch.uint8)
    assert use_large_pages(table[SIZE // 2 :])  # the memory is one, whatever is looked at
    assert [advice for _, _, advice in asked] == [mmap.MADV_HUGEPAGE, 25]
    start, size, _ = asked[0]
    assert asked[1][:2] == (start, size)
    assert start % (2 << 20) == size % (2 << 20) == 0
    assert table.data_ptr() <= start
    assert start + size <= table.data_ptr() + SIZE
    assert size >= SIZE - (4 << 20)


def test_a_system_that_refuses(monkeypatch: pytest.MonkeyPatch):
    asked = requests(monkeypatch, answer=-1)
    assert not use_large_pages(torch.empty(SIZE, dtype=torch.uint8))
    assert len(asked) == 1


def test_a_system_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "_advise", lambda: None)
    assert not use_large_pages(torch.empty(SIZE, dtype=torch.uint8))


def requests(monkeypatch: pytest.MonkeyPatch, *, answer: int) -> list[tuple[int, int, int]]:
    """Replace the system by one that gives ``answer``; returns what it is asked."""
    asked: list[tuple[int, int, int]] = []

    def advise(start: int, size: int, advice: int) -> int:
        asked.append((start, size, advice))
        return answer

    monkeypatch.setattr(pages, "_advise", lambda: advise)
    return asked


def flags(address: int) -> list[str]:
    """Return the kernel's flags of the mapping that holds an address; ``hg`` says that large pages were asked for."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            start, stop = (int(end, 16) for end in head.split("-"))
            inside = start <= address < stop
        elif inside and head == "VmFlags:":
            return line.split()[1:]
    return []
