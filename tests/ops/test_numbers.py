"""Numbers that are constants of a loss: temperature, margin, shift, sigma, tail_mass, alike in ops and in modules."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from fastkd import losses, ops

USERS, ITEMS = torch.ones(2, 3), torch.ones(5, 3)
IDS, SCORES, ONES = torch.tensor([[0, 1], [2, 3]]), torch.zeros(2, 2), torch.full((2, 2), 0.5)
PAIR = USERS, ITEMS
CALLS = {
    "listnet": ("temperature", lambda t, **o: ops.listnet(SCORES, SCORES, temperature=t, **o)),
    "listnet_from_embeddings": (
        "temperature",
        lambda t, **o: ops.listnet_from_embeddings(*PAIR, IDS, SCORES, temperature=t, **o),
    ),
    "soft_bce": ("temperature", lambda t, **o: ops.soft_bce(SCORES, SCORES, temperature=t, **o)),
    "soft_bce, shift": ("shift", lambda t, **o: ops.soft_bce(SCORES, SCORES, shift=t, **o)),
    "soft_bce_from_embeddings": (
        "temperature",
        lambda t, **o: ops.soft_bce_from_embeddings(*PAIR, IDS, SCORES, temperature=t, **o),
    ),
    "soft_bce_from_embeddings, shift": (
        "shift",
        lambda t, **o: ops.soft_bce_from_embeddings(*PAIR, IDS, SCORES, shift=t, **o),
    ),
    "pairwise": ("margin", lambda t, **o: ops.pairwise(SCORES[0], SCORES, loss="margin", margin=t, **o)),
    "pairwise_from_embeddings": (
        "margin",
        lambda t, **o: ops.pairwise_from_embeddings(*PAIR, IDS[:, 0], IDS, loss="margin", margin=t, **o),
    ),
    "lambda_pairs": ("sigma", lambda t, **o: ops.lambda_pairs(SCORES, sigma=t, **o)),
    "lambda_pairs_from_embeddings": (
        "sigma",
        lambda t, **o: ops.lambda_pairs_from_embeddings(*PAIR, IDS, sigma=t, **o),
    ),
    "catalogue_logsumexp": ("temperature", lambda t, **o: ops.catalogue_logsumexp(*PAIR, temperature=t, **o)),
    "catalogue_divergence": ("temperature", lambda t, **o: ops.catalogue_divergence(PAIR, PAIR, temperature=t, **o)),
    "catalogue_softmax": ("temperature", lambda t, **o: ops.catalogue_softmax(*PAIR, IDS, ONES, temperature=t, **o)),
    "catalogue_softmax, tail": (
        "tail_mass",
        lambda t, **o: ops.catalogue_softmax(*PAIR, IDS, ONES, tail_mass=t, validate=False, **o),
    ),
    "sampled_softmax": ("temperature", lambda t, **o: ops.sampled_softmax(*PAIR, IDS, IDS + 1, temperature=t, **o)),
    "ListNetLoss": ("temperature", lambda t, **o: losses.ListNetLoss(t, **o)),
    "SoftBCELoss": ("temperature", lambda t, **o: losses.SoftBCELoss(t, **o)),
    "SoftBCELoss, shift": ("shift", lambda t, **o: losses.SoftBCELoss(1.0, t, **o)),
    "MarginLoss": ("margin", lambda t, **o: losses.MarginLoss(t, **o)),
    "LambdaLoss": ("sigma", lambda t, **o: losses.LambdaLoss(sigma=t, **o)),
    "CatalogueSoftmaxLoss": ("temperature", lambda t, **o: losses.CatalogueSoftmaxLoss(temperature=t, **o)),
    "CatalogueSoftmaxLoss, tail": ("tail_mass", lambda t, **o: losses.CatalogueSoftmaxLoss(tail_mass=t, **o)),
    "CatalogueDivergenceLoss": ("temperature", lambda t, **o: losses.CatalogueDivergenceLoss(temperature=t, **o)),
    "SampledSoftmaxLoss": ("temperature", lambda t, **o: losses.SampledSoftmaxLoss(temperature=t, **o)),
}
every = pytest.mark.parametrize("name", CALLS)


@every
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_tensor_is_refused_and_told_why(name, backend):
    what, call = CALLS[name]
    message = rf"{what} must be a number, got a tensor; it is a constant .* no gradient: pass float\({what}\)"
    for value in (torch.tensor(0.5), torch.nn.Parameter(torch.tensor(0.5)), torch.ones(1)):
        with pytest.raises(TypeError, match=message):
            call(value, backend=backend)


@every
@pytest.mark.parametrize("value", ["2", True, None, [0.5], 1j, np.bool_(True)])
def test_what_is_no_number_is_refused(name, value):
    what, call = CALLS[name]
    with pytest.raises(TypeError, match=rf"{what} must be a number, got {re.escape(repr(value))}"):
        call(value)


@every
def test_a_number_out_of_range_is_refused(name):
    what, call = CALLS[name]
    wrong = [math.inf, -math.inf, math.nan, np.float32("nan")]
    if what in ("temperature", "sigma"):
        wrong += [0, -1.5]
    for value in wrong:
        with pytest.raises(
            ValueError, match=rf"{what} must be a (positive )?finite number, got {re.escape(repr(value))}"
        ):
            call(value)
    if what == "tail_mass":
        for value in (-0.5, 1, 1.0):
            with pytest.raises(ValueError, match=rf"tail_mass must be in \[0, 1\), got {value}"):
                call(value)


@every
def test_numbers_of_numpy_are_numbers(name):
    _, call = CALLS[name]
    expected = call(0.5)
    for value in (np.float32(0.5), np.float64(0.5), np.float16(0.5)):
        found = call(value)
        assert repr(found) == repr(expected)
    if "tail" not in name:
        assert repr(call(np.int64(2))) == repr(call(2)) == repr(call(2.0))
