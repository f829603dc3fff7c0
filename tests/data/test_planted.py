import numpy as np
import pytest

from fastkd.core import ConfigError, Seeds
from fastkd.data import SyntheticConfig, planted
from fastkd.data.planted import draw, plant_items, user_activity, user_mixture

SEEDS = Seeds(3)


def law(config, items, tastes):
    """P(i | u) written out, f64[B, N]."""
    weight = np.exp(items.log_share)
    p = tastes[0][:, items.cells // config.num_styles] * weight
    return p * tastes[1][:, items.cells % config.num_styles] if config.num_styles > 1 else p


def tastes_of(config, users):
    tastes = [user_mixture(config, SEEDS, users, "cluster", config.num_clusters)]
    if config.num_styles > 1:
        tastes.append(user_mixture(config, SEEDS, users, "style", config.num_styles))
    return tastes


def test_cells_are_equal_and_shares_sum_to_one():
    config = SyntheticConfig(num_items=1003, num_clusters=7, num_styles=3, popularity_exponent=1.1)
    items = plant_items(config, SEEDS)
    sizes = np.bincount(items.cells, minlength=21)
    assert sizes.max() - sizes.min() <= 1
    assert np.allclose(np.bincount(items.cells, np.exp(items.log_share)), 1)
    assert sorted(items.order.tolist()) == list(range(1003))


def test_mixtures_sum_to_one_and_noise_is_their_floor():
    users = np.arange(500)
    for temperature in (1e-3, 0.3, 100.0):
        config = SyntheticConfig(taste_temperature=temperature, noise=0.2, num_clusters=8)
        mixture = user_mixture(config, SEEDS, users, "cluster", 8)
        assert np.allclose(mixture.sum(axis=1), 1)
        assert mixture.min() >= 0.2 / 8 - 1e-9
    assert user_mixture(SyntheticConfig(noise=0, taste_temperature=1e-3), SEEDS, users, "cluster", 16).min() > 0


def test_activity_mean_and_bounds():
    config = SyntheticConfig(num_items=5000, interactions_per_user=40, activity_spread=0.5)
    counts = user_activity(config, SEEDS, np.arange(20000))
    assert abs(counts.mean() - 40) < 0.6  # standard error 0.15
    assert counts.min() >= 3
    assert set(user_activity(SyntheticConfig(activity_spread=0), SEEDS, np.arange(9)).tolist()) == {30}


@pytest.mark.parametrize("styles", [1, 3])
def test_first_draws_follow_the_law(styles):
    # one interaction each from one and the same mixture: a chi-square over all 24 items
    config = SyntheticConfig(num_users=1, num_items=24, num_clusters=4, num_styles=styles, interactions_per_user=1)
    items, users = plant_items(config, SEEDS), np.arange(60_000)
    tastes = [np.repeat(t[:1], len(users), axis=0) for t in tastes_of(config, users[:1])]
    _, drawn = draw(config, SEEDS, users, np.ones(len(users), dtype=np.int64), tastes, items)
    expected = law(config, items, [t[:1] for t in tastes])[0] * len(users)
    assert np.isclose(expected.sum(), len(users))
    seen = np.bincount(drawn, minlength=24)
    assert ((seen - expected) ** 2 / expected).sum() < 56.8  # 23 degrees of freedom, p = 1e-4


def test_two_draws_are_without_replacement():
    # P(i, then j) = p_i p_j / (1 - p_i) for j != i
    config = SyntheticConfig(num_users=1, num_items=6, num_clusters=2, interactions_per_user=2, popularity_exponent=1.5)
    items, users = plant_items(config, SEEDS), np.arange(40_000)
    tastes = [np.repeat(tastes_of(config, users[:1])[0], len(users), axis=0)]
    rows, drawn = draw(config, SEEDS, users, np.full(len(users), 2), tastes, items)
    p = law(config, items, [tastes[0][:1]])[0]
    inclusion = p + sum(p[i] * np.where(np.arange(6) == i, 0, p) / (1 - p[i]) for i in range(6))
    seen = np.bincount(drawn, minlength=6) / len(users)
    assert len(np.unique(rows * 6 + drawn)) == len(rows) == 2 * len(users)
    assert np.abs(seen - inclusion).max() < 4.5 * np.sqrt(0.25 / len(users))


def test_narrow_tastes_are_completed_by_the_same_law(monkeypatch):
    config = SyntheticConfig(num_users=1, num_items=6, num_clusters=2, interactions_per_user=1, popularity_exponent=1.5)
    items, users = plant_items(config, SEEDS), np.arange(6000)
    tastes = [np.repeat(tastes_of(config, users[:1])[0], len(users), axis=0)]
    monkeypatch.setattr(planted, "_ROUNDS", 0)  # nobody is served by the usual draws
    _, first = draw(config, SEEDS, users, np.ones(len(users), dtype=np.int64), tastes, items)
    expected = law(config, items, [tastes[0][:1]])[0] * len(users)
    assert ((np.bincount(first, minlength=6) - expected) ** 2 / expected).sum() < 25.7  # 5 degrees of freedom, p = 1e-4
    rows, drawn = draw(config, SEEDS, users[:500], np.full(500, 4), tastes, items)
    assert len(np.unique(rows * 6 + drawn)) == len(rows) == 2000


def test_one_cell_of_few_items_still_gives_distinct_items():
    config = SyntheticConfig(num_items=60, num_clusters=30, interactions_per_user=30, taste_temperature=1e-3, noise=0.0)
    users = np.arange(5)
    counts = np.full(5, 30)
    rows, drawn = draw(config, SEEDS, users, counts, tastes_of(config, users), plant_items(config, SEEDS))
    assert np.bincount(rows).tolist() == [30] * 5
    assert len(np.unique(rows * 60 + drawn)) == 150


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_users": 0}, "num_users must be at least 1, got 0"),
        ({"num_clusters": 50, "num_styles": 50}, "50 clusters x 50 styles need as many items, got 2000"),
        ({"interactions_per_user": 1500}, "interactions_per_user=1500"),
        ({"noise": 1.5}, r"noise must be in \[0, 1\], got 1.5"),
        ({"taste_temperature": 0}, "taste_temperature"),
        ({"ratios": (0.5, 0.1, 0.1)}, "0.5, 0.1, 0.1"),
    ],
)
def test_impossible_catalogues_are_refused(bad, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**bad)
