from __future__ import annotations

import json
import re

import pytest

from fastkd.core.errors import CheckpointError, DataError
from fastkd.core.manifest import check_file, digest_of, read_manifest

KIND = "fastkd-thing"


def test_a_manifest_of_the_right_kind_is_returned(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"format": KIND, "version": 3, "files": {}}))
    assert read_manifest(path, kind=KIND, version=3, error=DataError)["files"] == {}
    assert read_manifest(path, kind=KIND, version=None, error=DataError)["version"] == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no fastkd-thing in .*cannot read .*manifest.json: No such file"),
        ('{"format"', "manifest.json is corrupt: not JSON"),
        ("[1]", "manifest.json is not the manifest of a fastkd-thing"),
        ('{"format": "other", "version": 3}', "manifest.json is not the manifest of a fastkd-thing"),
        ('{"format": "fastkd-thing", "version": 99}', "format version 99; this fastkd reads 3"),
        ('{"format": "fastkd-thing"}', "format version None; this fastkd reads 3"),
    ],
)
@pytest.mark.parametrize("error", [DataError, CheckpointError])
def test_anything_else_is_named(tmp_path, text, says, error):
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=says):
        read_manifest(path, kind=KIND, version=3, error=error)


def test_bytes_that_are_no_text_are_corrupt(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="is corrupt: not JSON"):
        read_manifest(path, kind=KIND, version=3, error=DataError)


@pytest.mark.parametrize("size", [16, 32])
def test_files_are_checked_by_size_and_digest(tmp_path, size):
    path = tmp_path / "a.bin"
    path.write_bytes(b"some bytes")
    digest = digest_of(path, size=size)
    assert len(digest) == 2 * size
    check_file(path, 10, digest, error=DataError)
    path.write_bytes(b"some bytez")
    check_file(path, 10, digest, error=DataError, verify=False)
    with pytest.raises(DataError, match=rf"{re.escape(str(path))} is corrupt: blake2b .* says {digest[:16]}"):
        check_file(path, 10, digest, error=DataError)
    path.write_bytes(b"some byte")
    with pytest.raises(DataError, match="holds 9 bytes, its manifest says 10: truncated"):
        check_file(path, 10, digest, error=DataError, verify=False)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*a\.bin: No such file"):
        check_file(path, 10, digest, error=DataError)


@pytest.mark.parametrize("digest", [None, "", "ab" * 65, 7, "xyz"])
def test_a_digest_that_is_none_fits_nothing(tmp_path, digest):
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is corrupt"):
        check_file(path, 1, digest, error=CheckpointError)
