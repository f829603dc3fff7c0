"""--base: another commit's package beside ours, each in its own process, the same registry in both."""

import pytest

from fastkd.bench import CASES, Roofline, Settings, base, gate
from fastkd.bench.base import Base, SideError, Worker
from fastkd.bench.case import at
from fastkd.bench.where import SOURCE, checkout, git
from fastkd.core.errors import ConfigError

ROOF = Roofline(1e10, {"float32": 1e11}, 1)
needs_git = pytest.mark.skipif(checkout() is None or not git("rev-parse", "HEAD"), reason="no checkout with git")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of this package as the other commit's, its listnet doubled."""
    folder = tmp_path / "other"
    (folder / "fastkd").mkdir(parents=True)
    for entry in (SOURCE / "fastkd").iterdir():
        if entry.name not in ("ops", "bench", "__pycache__"):
            (folder / "fastkd" / entry.name).symlink_to(entry)
    (folder / "fastkd" / "ops").mkdir()
    for entry in (SOURCE / "fastkd" / "ops").glob("*.py"):
        (folder / "fastkd" / "ops" / entry.name).write_text(entry.read_text())
    (folder / "fastkd" / "_native_elsewhere.so").touch()
    monkeypatch.setattr(base, "unpacked", lambda root, commit: folder)
    monkeypatch.setattr(gate, "verdict", lambda case, quick=False: gate.Verdict(True, "tests"))
    return folder


@needs_git
def test_both_sides_are_timed_in_turns(copy):
    sides = Base("HEAD", Settings(passes=("both",), seconds=0.01), ROOF)
    try:
        point = at(B=20, K=4, L=5)
        ours, theirs = sides.rows(CASES["listnet"], [point])
        assert ours["contender"] == "fastkd"
        assert theirs["contender"].startswith("fastkd@")
        assert theirs["over_fastkd"] == pytest.approx(theirs["p50_ms"] / ours["p50_ms"])
    finally:
        sides.close()
    assert all(side.process.poll() is not None for side in sides.sides.values())


def test_a_side_runs_its_own_package_with_this_registry(copy):
    path = copy / "fastkd" / "ops" / "listnet.py"
    path.write_text(path.read_text() + "\n\ndef listnet(*a, **k):\n    raise ArithmeticError('the other one')\n")
    side = Worker(copy, "cpu", 1)
    try:
        asked = {
            "do": "open",
            "case": "listnet",
            "sizes": {"B": 3, "K": 2, "L": 2},
            "dtype": "float32",
            "table": "random",
        }
        with pytest.raises(SideError, match="the other one"):
            side.ask({**asked, "pass": "both"})
        assert side.ask({**asked, "case": "soft_bce", "pass": "both"})["inputs"] >= 1
        assert side.seconds() > 0
    finally:
        side.close()


def test_a_package_that_lacks_what_the_registry_imports_says_so(tmp_path):
    (tmp_path / "fastkd").mkdir()
    (tmp_path / "fastkd" / "__init__.py").write_text("")
    (tmp_path / "fastkd" / "_native_elsewhere.so").touch()
    with pytest.raises(SideError, match=r"No module named 'fastkd\.core'"):
        Worker(tmp_path, "cpu", 1)


@needs_git
def test_an_unknown_commit_is_refused():
    with pytest.raises(ConfigError, match="git knows no commit 'nothing-like-it'"):
        Base("nothing-like-it", Settings(), ROOF)


def test_an_installed_package_has_no_base(monkeypatch):
    monkeypatch.setattr(base, "checkout", lambda: None)
    with pytest.raises(ConfigError, match="needs a checkout"):
        Base("HEAD", Settings(), ROOF)


@needs_git
def test_a_commit_is_unpacked_once_with_its_native_module(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTKD_CACHE", str(tmp_path))
    built = []
    monkeypatch.setattr(base, "build", built.append)
    head = git("rev-parse", "HEAD")
    folder = base.unpacked(SOURCE, head)
    assert (folder / "fastkd" / "ops" / "rank_topk.py").is_file()
    assert built == [folder] or list((folder / "fastkd").glob("_native*.so"))
    stamp = (folder / "fastkd" / "__init__.py").stat().st_mtime_ns
    assert base.unpacked(SOURCE, head) == folder
    assert (folder / "fastkd" / "__init__.py").stat().st_mtime_ns == stamp
