"""Without a GPU, Triton kernels run in its interpreter, which must be switched on before triton is first imported."""

import importlib.util
import os
import sys

import pytest
import torch

if importlib.util.find_spec("hypothesis") is not None:  # a bare GPU machine may lack it
    from hypothesis import settings

    # The same examples in every run, so that a change is judged by what it changes; FASTKD_EXAMPLES=new looks further.
    settings.register_profile("same", derandomize=True)
    settings.register_profile("new", derandomize=False)
    settings.load_profile(os.environ.get("FASTKD_EXAMPLES", "same"))

if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True, scope="session")
def quick_interpreter():
    """Skip the interpreter's renewed patching of triton.language at each call of a helper: up to ten times quicker."""
    if os.environ.get("TRITON_INTERPRET") != "1" or importlib.util.find_spec("triton") is None:
        yield
        return
    from triton.runtime.interpreter import InterpretedFunction

    def call(self, *args, **kwargs):
        ours = self.fn.__module__.startswith("fastkd")
        return self.rewrite()(*args, **kwargs) if ours else plain(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        plain = InterpretedFunction.__call__
        patch.setattr(InterpretedFunction, "__call__", call)
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the op contract's tests their ``backend`` and ``native``: those that have a kernel for the op."""
    op = getattr(metafunc.cls, "op", None)
    if op is None or not hasattr(metafunc.cls, "native_calls"):
        return
    from tests.contracts.backends import NATIVE, backends_of

    marked = {name for mark in metafunc.definition.iter_markers("parametrize") for name in mark.args[0].split(",")}
    for name, known in (("backend", backends_of(op)), ("native", [b for b in backends_of(op) if b in NATIVE])):
        if name in metafunc.fixturenames and name not in marked:
            metafunc.parametrize(name, known)
