import os
import stat

import pytest

from fastkd.core.files import atomic_path, write_bytes, write_text


def test_a_file_appears_whole_under_new_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()
    write_bytes(path, b"2")
    assert path.read_bytes() == b"2"
    assert [p.name for p in path.parent.iterdir()] == ["c.txt"]


def test_the_temporary_file_is_beside_and_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "x.parquet") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".parquet"
        assert not (tmp_path / "x.parquet").exists()
        temporary.write_bytes(b"1")
    assert (tmp_path / "x.parquet").read_bytes() == b"1"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_content(tmp_path, error):
    path = tmp_path / "x"
    path.write_text("old")

    def half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_content(tmp_path, monkeypatch, call):
    path = tmp_path / "x"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_others_may_read_it_as_the_umask_says_whoever_writes_it(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "x", "1")
        with atomic_path(tmp_path / "y") as temporary:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with atomic_path(tmp_path / "z") as temporary:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            temporary.chmod(0o666)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xyz"] == [mode] * 3


def test_nothing_written_is_noticed(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass
    assert not list(tmp_path.iterdir())
