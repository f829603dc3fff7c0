"""One side of ``fastkd bench --base``: a process that times one fastkd on request. Run as a script, not imported.

    python _worker.py PACKAGE_PARENT DEVICE THREADS

``PACKAGE_PARENT`` holds the ``fastkd`` to time; the registry and the clock are those beside this file, whichever fastkd
it is, so that both sides run the same harness. One line of JSON in, one out; what anybody prints goes to stderr.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def use(parent: str) -> None:
    """Make ``import fastkd`` find the one in ``parent``, and ``fastkd.bench`` the one beside this file."""
    if any(Path(parent, "fastkd").glob("_native*.so")):  # else an editable install's finder knows where it is
        sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
    sys.path[:] = [parent, *(path for path in sys.path if Path(path or ".").resolve() != HERE)]
    import fastkd

    assert fastkd.__file__ is not None
    if Path(fastkd.__file__).parents[1].resolve() != Path(parent).resolve():
        raise SystemExit(f"found fastkd in {fastkd.__file__}, not in {parent}")
    spec = importlib.util.spec_from_file_location(
        "fastkd.bench", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastkd.bench"] = module
    fastkd.bench = module
    spec.loader.exec_module(module)


class Side:
    """What the parent may ask for: ``open`` a case at a point, ``time`` it once, its ``peak``."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.calls: list[Any] = []
        self.turn = 0

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request."""
        from fastkd.bench import clock

        if asked["do"] == "open":
            return self._open(asked)
        if asked["do"] == "peak":
            return {"bytes": clock.peak(self.calls[0], self.device)}
        self.turn += 1
        return {"seconds": clock.once(self.calls[self.turn % len(self.calls)], self.device)}

    def _open(self, asked: dict[str, Any]) -> dict[str, Any]:
        from fastkd.bench import gate
        from fastkd.bench.case import Point
        from fastkd.bench.cases import case_named
        from fastkd.bench.run import inputs_of, work_of

        case = case_named(asked["case"])
        wrong = gate.numeric(case, self.device)
        if wrong is not None:
            raise RuntimeError(wrong)
        point = Point(asked["sizes"], frozenset(), asked["dtype"], asked["table"])
        sets = inputs_of(case, point, self.device)
        self.calls = [work_of(case, asked["pass"], lambda i=i: case.call(i, "auto"), i) for i in sets]  # type: ignore[misc]
        return {"inputs": len(sets)}


def main() -> None:
    """Answer until the parent closes the pipe."""
    parent, device, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        use(parent)
        import torch

        torch.set_num_threads(int(threads))
        side = Side(device)
        from fastkd.bench import CASES

        answers.write(json.dumps({"cases": list(CASES)}) + "\n")
    except Exception as error:  # an older fastkd may lack what the registry imports: the parent says so
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    for line in sys.stdin:
        try:
            answers.write(json.dumps(side.answer(json.loads(line))) + "\n")
        except Exception as error:  # the other side and the other cases are still worth having
            answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")


if __name__ == "__main__":
    main()
