"""What the READMEs print as Python runs as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastkd.core.config import from_mapping
from fastkd.presets import StudyConfig

ROOT = Path(__file__).parents[1]
ROOMS = (
    "core", "data", "distillation", "evaluation", "losses", "models", "ops", "presets", "sampling", "training"
)  # fmt: skip
PAGES = ("README.md", *(f"fastkd/{room}/README.md" for room in ROOMS), "fastkd/distillation/pages/combined.md")


def whole(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", whole(page), re.MULTILINE | re.DOTALL)


def test_the_front_page_shows_python_and_a_study():
    assert len(blocks("README.md", "python")) >= 2
    assert len(blocks("README.md", "yaml")) == 1


@pytest.mark.parametrize("page", PAGES)
def test_python_runs_as_printed(page, tmp_path):
    script = "\n".join(b for b in blocks(page, "python") if "..." not in b.replace("folder=...", ""))
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    for name, text in re.findall(r"^Save this as `(.*?)`:\n\n```\n(.*?)^```", whole(page), re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_printed_study_is_a_valid_configuration():
    import yaml

    study = from_mapping(StudyConfig, yaml.safe_load(blocks("README.md", "yaml")[0]))
    assert study.method_names() == ("none", "rrd", "de")
