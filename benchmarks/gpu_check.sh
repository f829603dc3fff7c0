#!/usr/bin/env bash
# One command for a bare CUDA machine without network: build, test, measure, a short table last.
#
#   benchmarks/gpu_check.sh                          every stage, nine minutes at most
#   benchmarks/gpu_check.sh build numerics bench     these stages alone
#   OUT=/some/folder benchmarks/gpu_check.sh         where check.log, check.json and the benchmark's files go
#
# Needs in its image: torch with CUDA, triton, numpy, pybind11, cmake, make or ninja, a C++ compiler, pytest. Whatever else a
# test imports (numba, hypothesis, scipy, yaml, pyarrow) leaves out that test, by name, where it is missing. Uses pytest-xdist
# and compute-sanitizer where they are. Each stage has a time of its own and runs whatever became of the others; a stage that
# cannot run here says why. Ends with 1 if a stage failed.
# shellcheck disable=SC2086  # lists of files are split on purpose
set -u -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here" || exit 2
python=${PYTHON:-python3}
out=${OUT:-$here/gpu-check}
mkdir -p "$out"
rows=$(mktemp)
log=$(mktemp)
trap 'rm -f "$rows" "$log"' EXIT
: >"$out/check.log" # one file for all stages, written as they end
unset TRITON_INTERPRET

# stage : seconds. They add up to nine minutes. The sanitizer, whose time nobody knows, is last.
stages="build:80 cases:80 numerics:90 large:50 memory:40 determinism:20 graphs:40 bench:100 sanitizer:40"
if [ $# -gt 0 ]; then wanted=$*; else wanted=$(for s in $stages; do echo "${s%%:*}"; done); fi

has() { "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }
no_cuda=$("$python" -c "import torch; print('' if torch.cuda.is_available() else 'torch sees no CUDA device')" 2>&1 | tail -n 1)

# What pyproject.toml sets for plugins that this image may lack is overridden, not required.
pytest_on_gpu() {
  local plain=(-q -p no:cacheprovider -p benchmarks.gpu_left_out --tb=short --durations=5 -o "filterwarnings=")
  plain+=(-o "addopts=--import-mode=importlib -ra --strict-markers" -o "timeout=0" -o "strict=false")
  has pytest_timeout || plain+=(-W "ignore::pytest.PytestConfigWarning")
  "$python" -m pytest "${plain[@]}" "$@"
}
on_gpu() { pytest_on_gpu -m gpu -k "$1" $GPU_FILES; }

# Each test marked gpu belongs to one stage by its name; numerics takes the rest.
large="int32 or 32_bits or two_to_the_31"
memory="scratch or memory or no_matrix or no_tensor"
same="same_bits"
graphs="captured or graph or wait"

stage_build() { # in place, without build isolation, without network
  local made=$here/build/gpu-check where generator=()
  where=$("$python" -m pybind11 --cmakedir) || return 1
  if [ ! -e "$made/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  cmake -S "$here" -B "$made" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release \
    -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$where" &&
    cmake --build "$made" --target _native -j "$(nproc)" &&
    if [ "${INPLACE:-1}" = 1 ]; then cp "$made"/_native*.so "$here/fastkd/"; fi &&
    PYTHONPATH=${NATIVE_AT:-$here} "$python" -c "import fastkd; from fastkd.sampling import _arrays; import fastkd._native; print('native module', fastkd._native.__file__)"
}
stage_cases() { "$python" benchmarks/gpu_bench.py --check; } # every op beside its reference, at a small odd size
stage_numerics() { # what is marked gpu about values, then the contracts of some ops on the device
  local workers=() code=0 second=0
  if has xdist; then workers=(-n 4); fi # most of the time goes to compiling
  pytest_on_gpu "${workers[@]}" -m gpu -k "not ($large or $memory or $same or $graphs)" $GPU_FILES || code=$?
  pytest_on_gpu "${workers[@]}" -m "not slow and not gpu" -k "triton and (formula or strays or gradient_is)" $OP_FILES || second=$?
  case $code in 0 | 5) return $second ;; *) return $code ;; esac
}
stage_large() { on_gpu "$large"; } # more scores than an int32 counts
stage_memory() { on_gpu "($memory) and not ($large)"; }
stage_determinism() { on_gpu "$same"; }
stage_graphs() { on_gpu "$graphs"; } # and that no call waits for the device
stage_bench() { "$python" benchmarks/gpu_bench.py --seconds 90 --out "$out"; }
stage_sanitizer() { # every tensor an allocation of its own, so that a step past its end is seen
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here"; return 77; }
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 1 "$python" benchmarks/gpu_bench.py --check
}
needs_cuda() { [ "$1" != build ]; }

GPU_FILES=$(grep -l "mark.gpu" -r tests --include='*.py' | sort | tr '\n' ' ')
OP_FILES=$(printf '%s ' tests/ops/test_relaxed_ranking_from_embeddings.py tests/ops/test_catalogue_softmax.py tests/ops/test_listnet_from_embeddings.py tests/ops/test_gather_dot.py)
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export GPU_FILES OP_FILES here python out large memory same graphs
for name in has pytest_on_gpu on_gpu $(for s in $stages; do echo "stage_${s%%:*}"; done); do export -f "${name?}"; done

for name in $wanted; do
  limit=$(for s in $stages; do [ "${s%%:*}" = "$name" ] && echo "${s##*:}"; done)
  if [ -z "$limit" ]; then
    echo "no stage $name; stages: $stages" >&2
    exit 2
  fi
  began=$(date +%s)
  if needs_cuda "$name" && [ -n "$no_cuda" ]; then
    echo "$no_cuda" >"$log"
    code=77
  else # interrupted, not killed: pytest then still tells what it found
    timeout --signal=INT --kill-after=5 "$limit" bash -c "trap 'exit 124' INT; stage_$name" >"$log" 2>&1
    code=$?
  fi
  case $code in
  0) verdict=passed ;;
  5 | 77) verdict=skipped ;;
  124 | 137) verdict="stopped after $limit s" ;;
  *) verdict=failed ;;
  esac
  { echo "=== $name: $verdict, $(($(date +%s) - began)) s"; cat "$log"; } >>"$out/check.log"
  last=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 | tr '\t' ' ' | cut -c1-160)
  printf '%s\t%s\t%s\t%s\n' "$name" "$verdict" "$(($(date +%s) - began))" "$last" >>"$rows"
  echo "$name: $verdict" >&2
  grep -E '^(FAILED|ERROR |SKIPPED|[a-z_]+ (failed:|at .* against its reference))|^(E  )? *[A-Za-z.]*Error: ' "$log" | sort | uniq -c | cut -c1-220 | head -n 20 >&2
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
