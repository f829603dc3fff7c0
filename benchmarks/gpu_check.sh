#!/usr/bin/env bash
# One command for a bare CUDA machine without network: build, test, measure, a short table last.
#
#   benchmarks/gpu_check.sh                          every stage, under nine minutes
#   benchmarks/gpu_check.sh build numerics bench     these stages alone
#   OUT=/some/folder benchmarks/gpu_check.sh         where logs, check.json and the benchmark's files go
#
# Needs in its image: torch with CUDA, triton, pybind11, scikit-build-core, cmake, a C++ compiler, pytest. Uses numba,
# hypothesis, pytest-timeout and compute-sanitizer where they are there. Each stage has a time of its own and runs whatever
# became of the others; a stage that cannot run here says why. Ends with 1 if a stage failed.
# shellcheck disable=SC2086  # lists of files are split on purpose
set -u -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here" || exit 2
python=${PYTHON:-python3}
out=${OUT:-$here/gpu-check}
mkdir -p "$out"
rows=$out/rows.tsv
: >"$rows"

# stage : seconds. They add up to 8 min 40 s.
stages="build:110 numerics:100 large:60 memory:30 determinism:30 graphs:40 sanitizer:40 bench:110"
if [ $# -gt 0 ]; then wanted=$*; else wanted=$(for s in $stages; do echo "${s%%:*}"; done); fi

has() { "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }
has_cuda() { "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null; }

# Plugins that pyproject.toml's settings name but this image may lack: their settings are overridden, not required.
pytest_on_gpu() {
  local plain=(-q -p no:cacheprovider -o "filterwarnings=" -o "addopts=--import-mode=importlib -ra --strict-markers" -o "timeout=0")
  has pytest_timeout || plain+=(-W "ignore::pytest.PytestConfigWarning" -o "strict=false")
  "$python" -m pytest "${plain[@]}" "$@"
}

# The tests of a stage: those marked gpu, or all, whose names match. A file that imports what is not here is left out, and said.
chosen() {
  local mark=$1 names=$2 files=() file missing
  shift 2
  for file in "$@"; do
    missing=$(needs "$file")
    if [ -n "$missing" ]; then echo "left out: $file imports $missing, which is not installed"; else files+=("$file"); fi
  done
  if [ ${#files[@]} -eq 0 ]; then echo "no test file can be imported here"; return 5; fi
  pytest_on_gpu -m "$mark" -k "$names" "${files[@]}"
}

# What a test file imports, over other test files too, that is not installed.
needs() {
  "$python" - "$1" <<'PY'
import ast, importlib.util, pathlib, sys

def imported(path, seen):
    if path in seen or not path.exists():
        return set()
    seen.add(path)
    names = set()
    for node in ast.parse(path.read_text()).body:
        for module in [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]:
            if module is None:
                continue
            top = module.split(".")[0]
            if top == "tests":
                names |= imported(pathlib.Path(module.replace(".", "/") + ".py"), seen)
            elif module.startswith("fastkd.kernels.numba"):
                names.add("numba")
            elif top not in ("fastkd", "benchmarks"):
                names.add(top)
    return names

found = imported(pathlib.Path(sys.argv[1]), set())
print(*sorted(n for n in found if importlib.util.find_spec(n) is None))
PY
}

stage_build() { # in place, without build isolation, without network
  local made=$here/build/gpu-check where
  where=$("$python" -m pybind11 --cmakedir) || return 1
  cmake -S "$here" -B "$made" -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$where" &&
    cmake --build "$made" --target _native -j "$(nproc)" &&
    if [ "${INPLACE:-1}" = 1 ]; then cp "$made"/_native*.so "$here/fastkd/"; fi &&
    PYTHONPATH=${NATIVE_AT:-$here} "$python" -c "import fastkd; from fastkd.sampling import _arrays; import fastkd._native; print('native module', fastkd._native.__file__)"
}
stage_numerics() { # what is marked gpu about values, then the ops' contracts on the device
  chosen gpu "equals or agrees or long_lists or adversaries or history or ties or draws or sums" $GPU_FILES &&
    chosen "not slow and not gpu" "triton and (formula or strays or gradient_is)" $OP_FILES
}
stage_large() { chosen gpu "int32 or 32_bits or two_to_the_31" $GPU_FILES; } # more scores than an int32 counts
stage_memory() { chosen gpu "scratch or memory or no_matrix or no_tensor" $GPU_FILES; }
stage_determinism() { chosen gpu "same_bits" $GPU_FILES; }
stage_graphs() { chosen gpu "captured or graph or waits or waiting" $GPU_FILES; } # and that no call waits for the device
stage_sanitizer() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here"; return 77; }
  PYTHONPATH=$here compute-sanitizer --tool memcheck --error-exitcode 1 "$python" benchmarks/gpu_bench.py --check
}
stage_bench() {
  PYTHONPATH=$here "$python" benchmarks/gpu_bench.py --seconds 100 --out "$out"
}
needs_cuda() { [ "$1" != build ]; }

GPU_FILES=$(grep -l "mark.gpu" -r tests --include='*.py' | sort | tr '\n' ' ')
OP_FILES=$(printf '%s ' tests/ops/test_relaxed_ranking_from_embeddings.py tests/ops/test_catalogue_softmax.py tests/ops/test_listnet_from_embeddings.py tests/ops/test_gather_dot.py)
export GPU_FILES OP_FILES here python out
export -f has needs chosen pytest_on_gpu stage_build stage_numerics stage_large stage_memory stage_determinism stage_graphs stage_sanitizer stage_bench

for name in $wanted; do
  limit=$(for s in $stages; do [ "${s%%:*}" = "$name" ] && echo "${s##*:}"; done)
  if [ -z "$limit" ]; then
    echo "no stage $name; stages: $stages" >&2
    exit 2
  fi
  began=$(date +%s)
  if needs_cuda "$name" && ! has_cuda; then
    echo "torch sees no CUDA device" >"$out/$name.log"
    code=77
  else
    timeout --kill-after=5 "$limit" bash -c "stage_$name" >"$out/$name.log" 2>&1
    code=$?
  fi
  case $code in
  0) verdict=passed ;;
  5 | 77) verdict=skipped ;;
  124 | 137) verdict="stopped after $limit s" ;;
  *) verdict=failed ;;
  esac
  last=$(grep -v '^[[:space:]]*$' "$out/$name.log" | tail -n 1 | tr '\t' ' ' | cut -c1-160)
  printf '%s\t%s\t%s\t%s\n' "$name" "$verdict" "$(($(date +%s) - began))" "$last" >>"$rows"
  echo "$name: $verdict" >&2
done

"$python" - "$rows" "$out" <<'PY'
import json, pathlib, platform, sys
rows = [line.split("\t") for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
out = pathlib.Path(sys.argv[2])
about = {"python": platform.python_version()}
try:
    import torch
    about |= {"torch": torch.__version__, "cuda": torch.version.cuda,
              "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None}
    import triton
    about["triton"] = triton.__version__
except ImportError as missing:
    about["missing"] = str(missing)
figures = out / "bench.jsonl"
bench = [json.loads(line) for line in figures.read_text().splitlines()] if figures.exists() else []
stages = [{"stage": n, "verdict": v, "seconds": int(s), "last": l} for n, v, s, l in rows]
(out / "check.json").write_text(json.dumps({**about, "stages": stages, "bench": bench}, indent=1) + "\n")
for row in bench:
    if "p50_ms" in row:
        share = f"{100 * row['share']:.0f} % of the limit" if row.get("share") else ""
        print(f"{row['case']:32} {row['point']:40} {row['contender']:10} {row['p50_ms']:9.3f} ms {row['over_fastkd']:7.2f} x  {share}")
print(*about.values())
for n, v, s, l in rows:
    print(f"{n:12} {v:18} {s:>4} s  {l}")
sys.exit(any(v == "failed" or v.startswith("stopped") for _, v, _, _ in rows))
PY
