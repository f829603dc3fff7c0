"""The C++ core, built and run without an interpreter, under address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def missing():
    if not (ROOT / "CMakeLists.txt").is_file():
        return "no source tree beside the tests"
    if shutil.which("cmake") is None:
        return "no cmake on PATH"
    compiler = os.environ.get("CXX", "c++")
    return None if shutil.which(compiler) else f"no C++ compiler ({compiler}) on PATH"


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def skip_where_threads_cannot_be_watched(folder):
    """ThreadSanitizer needs its own places in memory, which some systems hand out at random (ASLR)."""
    (folder / "nothing.cpp").write_text("int main() {}")
    program = str(folder / "nothing")
    run(os.environ.get("CXX", "c++"), "-fsanitize=thread", "nothing.cpp", "-o", program, cwd=folder)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not start under this system's ASLR; try `setarch -R` or vm.mmap_rnd_bits=28")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize(
    "sanitize",
    ["address,undefined", pytest.param("thread", marks=pytest.mark.slow), pytest.param("", marks=pytest.mark.slow)],
)
def test_the_core_passes_its_own_tests(tmp_path, sanitize):
    options = [
        "-DFASTKD_BUILD_PYTHON=OFF",
        "-DFASTKD_BUILD_TESTS=ON",
        f"-DFASTKD_SANITIZE={sanitize}",
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O0 -Werror",
    ]
    run("cmake", "-S", str(ROOT), "-B", str(tmp_path), *options, cwd=tmp_path)
    run("cmake", "--build", str(tmp_path), "--parallel", "2", cwd=tmp_path)
    if sanitize == "thread":
        skip_where_threads_cannot_be_watched(tmp_path)
    assert "core tests passed" in run(str(tmp_path / "fastkd_core_tests"), cwd=tmp_path)
    assert "epoch tests passed" in run(str(tmp_path / "fastkd_epoch_tests"), cwd=tmp_path)
    assert "sampler tests passed" in run(str(tmp_path / "fastkd_sampler_tests"), cwd=tmp_path)


def test_the_core_has_never_heard_of_python():
    for path in (ROOT / "csrc" / "samplers").iterdir():
        text = path.read_text().lower()
        assert "pybind" not in text, path.name
        assert "python.h" not in text, path.name
