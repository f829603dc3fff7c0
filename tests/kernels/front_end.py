"""Reads launches (pickled) and takes each through Triton's front end, which the interpreter does without.

Runs as a program of its own: what ``TRITON_INTERPRET`` has made of kernels cannot be compiled.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from pathlib import Path


def faults(launches):
    """Return (kernel, constants, message) of each launch (module, kernel, types, constants) that is refused."""
    import triton.language as tl
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend

    target, found = GPUTarget("cuda", 90, 32), []
    backend = make_backend(target)
    for module, name, types, constants, options in launches:
        kernel = getattr(importlib.import_module(module), name)
        constants = {n: getattr(tl, c[3:]) if str(c).startswith("tl.") else c for n, c in constants.items()}
        source = ASTSource(kernel, {n: types.get(n, "constexpr") for n in kernel.arg_names}, constants)
        parsed = backend.parse_options({**options, **source.parse_options()})
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        try:
            source.make_ir(
                target, parsed, backend.get_codegen_implementation(parsed), backend.get_module_map(), context
            )
        except Exception as error:  # every refused launch is named, one does not hide the others
            innermost: BaseException = error
            while innermost.__cause__ is not None:
                innermost = innermost.__cause__
            found.append((name, constants, str(innermost)[-400:]))
    return found


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    given = pickle.loads(Path(sys.argv[1]).read_bytes())  # written by the test that started this
    for fault in faults(given):
        sys.stdout.write("\n  ".join(map(str, fault)) + "\n\n")
    sys.stdout.write(f"{len(given)} launches read\n")
