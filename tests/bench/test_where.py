"""Where a figure comes from."""

import re

from fastkd.bench import where


def test_a_checkout_tells_its_commit_and_an_install_its_version(monkeypatch):
    if where.checkout() is not None and where.git("rev-parse", "HEAD"):
        assert re.fullmatch(r"[0-9a-f]{10}\+?", where.commit())
    monkeypatch.setattr(where, "checkout", lambda: None)
    import fastkd

    assert where.commit() == fastkd.__version__


def test_git_says_nothing_where_there_is_no_repository(tmp_path):
    assert where.git("rev-parse", "HEAD", folder=tmp_path) is None


def test_surroundings_name_device_and_versions():
    about = where.surroundings("cpu")
    assert about["device"]
    assert about["device_type"] == "cpu"
    assert {"torch", "numpy"} <= set(about["versions"])
