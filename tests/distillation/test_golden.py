"""The golden numbers are what their scripts print, and the scripts share no code with what they judge."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.py"))
SHARED = {"feature_case"}
SCRIPTS = [path for path in FILES if path.stem not in SHARED]


def same(found, kept):
    """Equal, numbers to the last bits that a platform's exp may differ in."""
    if isinstance(kept, dict):
        return found.keys() == kept.keys() and all(same(found[key], kept[key]) for key in kept)
    if isinstance(kept, list):
        return len(found) == len(kept) and all(map(same, found, kept))
    return found == (pytest.approx(kept, rel=1e-13, abs=1e-13) if isinstance(kept, float) else kept)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_a_script_prints_what_is_kept(script, capsys, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    runpy.run_path(str(script))
    kept = json.loads(script.with_suffix(".json").read_text(encoding="utf-8"))
    assert same(json.loads(capsys.readouterr().out), kept)


@pytest.mark.parametrize("script", FILES, ids=lambda p: p.stem)
def test_a_script_needs_numpy_and_nothing_of_ours(script):
    text = script.read_text(encoding="utf-8")
    assert "fastkd" not in text.replace("fastkd's", "")
    assert "torch" not in text


def test_every_kept_file_has_its_script():
    kept = sorted(p.stem for p in FOLDER.glob("*.json"))
    assert kept == [p.stem for p in SCRIPTS]
