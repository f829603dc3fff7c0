import sys

import numpy as np
import pytest

from fastkd.core import BackendError, ConfigError, Interactions
from fastkd.sampling import NegativeSampler, _backends

NATIVE = pytest.mark.skipif(_backends.obstacle("native") is not None, reason="fastkd._native is not built")
TABLE = Interactions.from_pairs([0, 1, 1], [2, 0, 5], num_items=9)


def test_a_missing_backend_is_named_and_auto_goes_on(monkeypatch):
    why = {"native": "the C++ module is gone", "numba": None, "reference": None}
    monkeypatch.setattr(_backends, "obstacle", why.get)
    with pytest.raises(BackendError, match=r"'native'.*the C\+\+ module is gone"):
        NegativeSampler(TABLE, backend="native")
    assert NegativeSampler(TABLE).backend == "numba"
    why["numba"] = "numba is gone too"
    assert NegativeSampler(TABLE).backend == "reference"


def test_an_absent_module_is_an_obstacle_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(_backends.importlib.util, "find_spec", lambda name: None)
    assert "pip install -e ." in _backends.obstacle.__wrapped__("native")


@NATIVE
def test_native_is_taken_where_it_is_built():
    assert NegativeSampler(TABLE).backend == "native"
    assert "backend='native'" in repr(NegativeSampler(TABLE))
    assert type(_backends.build("native", TABLE)) is sys.modules["fastkd._native"].UniformSampler


def test_an_unknown_backend_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'nativ'. Did you mean 'native'\? Known: auto, native, numba, reference"):
        NegativeSampler(TABLE, backend="nativ")


@pytest.mark.parametrize("backend", [pytest.param("native", marks=NATIVE), "numba", "reference"])
def test_arrays_that_are_not_contiguous_are_taken(backend):
    strided = Interactions(np.repeat(TABLE.indptr, 2)[::2], np.repeat(TABLE.indices, 2)[::2], TABLE.num_items)
    users = np.array([1, 0])
    drawn = NegativeSampler(strided, backend=backend).sample(users, 5)
    np.testing.assert_array_equal(drawn, NegativeSampler(TABLE, backend="reference").sample(users, 5))
