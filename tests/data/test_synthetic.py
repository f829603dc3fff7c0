import numpy as np
import pytest
import torch

from fastkd.core import Seeds
from fastkd.data import SyntheticConfig, synthetic_dataset
from fastkd.data.planted import plant_items, user_mixture

CONFIG = SyntheticConfig(num_users=300, num_items=500, num_clusters=8, interactions_per_user=20, seed=5)


@pytest.mark.parametrize("styles", [1, 4])
def test_chunking_and_repeating_change_nothing(styles):
    config = SyntheticConfig(num_users=200, num_items=300, num_clusters=6, num_styles=styles, seed=9)
    whole = synthetic_dataset(config)
    for chunk in (1, 37, 200):
        if chunk == 1 and styles > 1:
            continue
        again = synthetic_dataset(config, chunk_users=chunk)
        assert again.dataset.content_hash() == whole.dataset.content_hash()
        assert torch.equal(again.oracle.users, whole.oracle.users)
        assert torch.equal(again.oracle.items, whole.oracle.items)
    other = synthetic_dataset(SyntheticConfig(num_users=200, num_items=300, num_clusters=6, num_styles=styles, seed=10))
    assert other.dataset.content_hash() != whole.dataset.content_hash()


def test_more_users_leave_the_others_as_they_were():
    few = synthetic_dataset(SyntheticConfig(num_users=50, num_items=400)).dataset.train
    many = synthetic_dataset(SyntheticConfig(num_users=80, num_items=400)).dataset.train
    assert many.rows(np.arange(50)) == few


@pytest.mark.parametrize("styles", [1, 3])
def test_oracle_is_log_probability(styles):
    config = SyntheticConfig(num_users=40, num_items=200, num_clusters=5, num_styles=styles, noise=0.1)
    made = synthetic_dataset(config)
    seeds, users = Seeds(config.seed).child("synthetic"), np.arange(40)
    items = plant_items(config, seeds)
    p = user_mixture(config, seeds, users, "cluster", 5)[:, items.cells // styles] * np.exp(items.log_share)
    if styles > 1:
        p = p * user_mixture(config, seeds, users, "style", styles)[:, items.cells % styles]
    assert np.allclose(p.sum(axis=1), 1)
    scores = (made.oracle.users.double() @ made.oracle.items.double().T).numpy()
    assert np.abs(scores - np.log(p)).max() < 1e-5
    assert made.oracle.users.shape[1] == (6 if styles == 1 else 5 + styles + 1)
    assert made.oracle.users.dtype == made.oracle.items.dtype == torch.float32


def recall_at(scores, dataset, k=10):
    scores = scores.copy()
    scores[dataset.train.entry_users(), dataset.train.indices] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = sum(dataset.test.contains(np.full(k, u), best[u]).sum() for u in range(dataset.num_users))
    return hits / dataset.test.nnz


def test_oracle_beats_popularity_and_noisy_oracles():
    made = synthetic_dataset(CONFIG)
    scores = (made.oracle.users @ made.oracle.items.T).numpy()
    best = recall_at(scores, made.dataset)
    popularity = recall_at(np.tile(made.dataset.train.item_counts().astype(float), (300, 1)), made.dataset)
    blurred = recall_at(scores + np.random.default_rng(0).normal(0, 2, scores.shape), made.dataset)
    assert best > 1.5 * popularity
    assert best > 1.5 * blurred


def test_parts_are_disjoint_and_cover_the_draws():
    made = synthetic_dataset(CONFIG).dataset
    union = made.train.union(made.valid).union(made.test)
    assert union.nnz == made.train.nnz + made.valid.nnz + made.test.nnz
    assert made.train.degrees().min() >= 1
    assert made.name == "synthetic-300x500"


def test_popularity_is_long_tailed():
    counts = np.sort(
        synthetic_dataset(SyntheticConfig(num_users=3000, popularity_exponent=1.0)).dataset.train.item_counts()
    )
    assert counts[-200:].sum() > 3 * counts[:1000].sum()  # a tenth of the items against half of them


def test_memory_is_bounded_by_chunks_not_by_users_times_items():
    import tracemalloc

    config = SyntheticConfig(num_users=2000, num_items=20_000, num_clusters=8, interactions_per_user=10)
    tracemalloc.start()
    synthetic_dataset(config, chunk_users=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 20_000 / 4  # a bool matrix of users x items would be four times that
