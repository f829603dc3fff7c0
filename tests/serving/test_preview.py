from __future__ import annotations

import pytest
import torch

from fastkd.core import Interactions
from fastkd.core.errors import ConfigError
from fastkd.models.protocol import Tables
from fastkd.serving import RecommendOptions, preview
from tests.contracts.op_contract import run_fresh
from tests.serving.student_cases import model_of

TABLES = Tables(torch.ones(1000, 8), torch.ones(5000, 8))

PEAK = """
import os, resource, sys, tempfile
import numpy as np, torch
from fastkd.core import Interactions
from fastkd.data.dataset import IdMap
from fastkd.models.protocol import Tables
from fastkd.serving import RecommendOptions, recommend
torch.set_num_threads(1)
count, items, ids = {count}, 300, lambda n: IdMap(np.arange(n))
seen = Interactions.from_pairs(np.arange(count), np.arange(count) % items, num_users=count, num_items=items)
tables = Tables(torch.randn(count, 4), torch.randn(items, 4))
def run(users):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lists{suffix}")
        recommend(tables, path, user_ids=ids(count), item_ids=ids(items), users=users, exclude=seen,
                  options=RecommendOptions(k=100, memory_budget_mb=4))
run(np.arange(4000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_memory_does_not_grow_with_the_users_served(suffix):
    # 40,000 lists of 100 are 4 M rows: 80 MB of ids, ranks and scores, and none of it may stay.
    grown = int(run_fresh(PEAK.format(count=40_000, suffix=suffix)))
    assert grown < 24_000, f"{grown} kB more for ten times the users"


@pytest.mark.parametrize("chunk", [None, 300])
def test_the_cost_is_that_of_the_chunks(chunk):
    options = RecommendOptions(k=10, chunk=chunk)
    found = preview(TABLES, 1000, exclude=Interactions.empty(1000, 5000), options=options)
    assert (found.chunk, found.chunks) == ((1000, 1) if chunk is None else (300, 4))
    assert found.plan.shape == (found.chunk, 5000, 8, 10)
    assert found.seconds == pytest.approx(found.plan.seconds * 1000 / found.chunk)
    assert found.memory_bytes >= found.plan.scratch_bytes
    assert found.bytes_moved >= 5000 * 8 * 4


def test_more_users_cost_more_time_and_no_more_memory():
    options = RecommendOptions(k=10, memory_budget_mb=1)
    small, large = (preview(TABLES, n, options=options) for n in (10_000, 1_000_000))
    assert large.seconds == pytest.approx(100 * small.seconds)
    assert large.memory_bytes == small.memory_bytes


def test_nobody_and_too_long_lists():
    assert preview(TABLES, 0).chunks == 0
    assert preview(TABLES, 0).seconds == 0
    with pytest.raises(ConfigError, match="K = 6000 is larger"):
        preview(TABLES, 5, options=RecommendOptions(k=6000))


@pytest.mark.parametrize("name", ["neumf", "deepfm"])
def test_a_model_that_scores_pairs_is_not_modelled(name):
    with pytest.raises(ConfigError, match=r"vectors only, and (NeuMF|DeepFM) scores pairs; recommend without"):
        preview(model_of(name), 5)
    with pytest.raises(ConfigError, match="K = 6000 is larger"):
        preview(model_of(name), 5, options=RecommendOptions(k=6000))
