"""One stream of bits on every backend: core, torch, numba, Triton, and C++ through what it draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd.core import Interactions
from fastkd.core.philox import philox4x32, uniform_open
from fastkd.kernels.numba import philox as numba_philox
from fastkd.kernels.numba._log import log as numba_log
from fastkd.kernels.reference import _random
from fastkd.kernels.reference.sample_ranked import log as numpy_log
from fastkd.sampling import NegativeSampler
from fastkd.sampling._backends import obstacle
from tests.contracts.backends import device_of

KEYS = (0, 2**64 - 1, 0xDEADBEEF12345678)


def counters(size):
    return np.random.default_rng(0).integers(0, 2**32, (4, size), dtype=np.int64)


@pytest.mark.parametrize("key", KEYS)
def test_words_agree(key):
    from fastkd.kernels.triton import philox as triton_philox

    given = counters(300)
    expected = np.stack(philox4x32(tuple(given), key)).astype(np.int64)
    in_torch = torch.stack(_random.philox4x32(*torch.from_numpy(given), key)).numpy()
    in_triton = triton_philox.words(torch.from_numpy(given).to(device_of("triton")), key).cpu().numpy()
    columns = given[:, :50].T.astype(np.uint64)
    in_numba = np.array([[int(w) for w in numba_philox.philox4x32(*c, *numba_philox.words_of(key))] for c in columns])
    assert np.array_equal(in_torch, expected)
    assert np.array_equal(in_triton, expected)
    assert np.array_equal(in_numba.T, expected[:, :50])


@pytest.mark.skipif(obstacle("native") is not None, reason="the C++ module is not built")
def test_cpp_draws_what_the_words_say():
    # With 2**31 items nothing is turned away, and an item is the upper 31 bits of its word.
    users = np.array([0, 1, 2], dtype=np.int64)
    sampler = NegativeSampler(Interactions.empty(3, 2**31), seed=5, backend="native")
    words = philox4x32((users[:, None], 0, np.arange(8)[None, :], 0), sampler.key(4))
    expected = np.stack(words, axis=-1).reshape(3, -1) >> 1
    assert np.array_equal(sampler.sample(users, 32, epoch=4), expected)


def test_uniforms_and_logarithms_agree_to_the_last_bit():
    given = counters(200_000)
    first, second = torch.from_numpy(given[0]), torch.from_numpy(given[1])
    doubles = _random.uniform_double(first, second)
    assert np.array_equal(uniform_open(given[0].astype(np.uint32)), (given[0] + 0.5) / 2**32)
    in_torch = _random.log(doubles).numpy()
    assert np.array_equal(in_torch, numpy_log(doubles.numpy()))
    some = doubles.numpy()[:20_000]
    assert [numba_log(x) for x in some] == in_torch[:20_000].tolist()
    words = given[:2, :20_000].astype(np.uint64)
    assert [numba_philox.uniform_double(a, b) for a, b in words.T] == some.tolist()
    assert np.all(np.abs(in_torch - np.log(doubles.numpy())) <= 4 * np.spacing(np.abs(in_torch)))
