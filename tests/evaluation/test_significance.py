import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastkd.core.errors import ConfigError, DataError
from fastkd.evaluation.ranking import EvalConfig, Evaluation
from fastkd.evaluation.significance import holm, paired_test


def evaluation(values, users=None, split="test", metric="ndcg@10", **config):
    values = np.asarray(values, dtype=np.float64)
    users = np.arange(len(values)) if users is None else np.asarray(users)
    return Evaluation(
        metrics={metric: float(values.mean()) if len(values) else math.nan},
        per_user={metric: values},
        users=users.astype(np.int64),
        excluded_users=0,
        users_without_targets=0,
        split=split,
        config=EvalConfig(**config),
    )


def pair(count, shift, seed):
    rng = np.random.default_rng(seed)
    base = rng.random(count)
    return evaluation(base + rng.normal(shift, 0.3, count)), evaluation(base)


def test_t_test_equals_scipys():
    a, b = pair(57, 0.1, 1)
    found = paired_test(a, b, "ndcg@10", permutations=100, resamples=10)
    reference = stats.ttest_rel(a.per_user["ndcg@10"], b.per_user["ndcg@10"])
    assert found.t_statistic == pytest.approx(reference.statistic)
    assert found.t_p_value == pytest.approx(reference.pvalue)
    assert found.mean_difference == pytest.approx(found.mean_a - found.mean_b)
    assert found.num_users == 57


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_few_users_get_the_exact_p_value(differences):
    d = np.array(differences) / 8
    found = paired_test(evaluation(d), evaluation(np.zeros(len(d))), "ndcg@10", permutations=512, resamples=5)
    # All 2^n sign vectors over all users, also those whose difference is zero.
    sums = [abs(np.dot(signs, d)) for signs in itertools.product([1, -1], repeat=len(d))]
    assert found.exact
    assert found.p_value == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-12))


def test_sampled_flips_come_near_the_exact_p_value():
    rng = np.random.default_rng(4)
    a, b = evaluation(rng.normal(0.25, 1.0, 16)), evaluation(np.zeros(16))
    exact = paired_test(a, b, "ndcg@10", permutations=2**16, resamples=5)
    sampled = paired_test(a, b, "ndcg@10", permutations=20_000, resamples=5)
    assert (exact.exact, exact.permutations) == (True, 2**16)
    assert (sampled.exact, sampled.permutations) == (False, 20_000)
    # Five standard errors of a proportion.
    assert abs(sampled.p_value - exact.p_value) < 5 * math.sqrt(exact.p_value * (1 - exact.p_value) / 20_000)


def test_sums_that_are_equal_on_paper_count_as_equal():
    # Sums of tenths differ in the last bits from one order of signs to another.
    d = np.random.default_rng(0).permutation(np.repeat([0.1, -0.1], [22, 18]))
    found = paired_test(evaluation(d), evaluation(np.zeros(40)), "ndcg@10", permutations=20_000, resamples=5)
    exact = stats.binomtest(22, 40).pvalue
    assert not found.exact
    assert abs(found.p_value - exact) < 5 * math.sqrt(exact * (1 - exact) / 20_000)


def test_p_values_are_uniform_when_nothing_differs():
    found = [
        paired_test(*pair(40, 0.0, seed), "ndcg@10", permutations=400, resamples=1, seed=seed) for seed in range(150)
    ]
    assert stats.kstest([f.p_value for f in found], "uniform").pvalue > 1e-3


def test_a_clear_difference_is_found_and_signed():
    a, b = pair(300, 0.2, 5)
    found, mirrored = paired_test(a, b, "ndcg@10"), paired_test(b, a, "ndcg@10")
    assert found.p_value == pytest.approx(1 / 10_001)
    assert found.t_p_value < 1e-6
    assert 0 < found.low < found.mean_difference < found.high
    assert mirrored.mean_difference == -found.mean_difference
    assert mirrored.high < 0


def test_the_interval_is_near_the_normal_one():
    a, b = pair(400, 0.1, 6)
    d = a.per_user["ndcg@10"] - b.per_user["ndcg@10"]
    found = paired_test(a, b, "ndcg@10", permutations=10, resamples=4000, confidence=0.9)
    half = 1.645 * d.std(ddof=1) / math.sqrt(len(d))
    assert found.low == pytest.approx(d.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(d.mean() + half, abs=0.15 * half)
    assert found.confidence == 0.9


def test_equal_seeds_equal_results_whatever_the_blocks(monkeypatch):
    a, b = pair(101, 0.03, 7)
    first = paired_test(a, b, "ndcg@10", permutations=500, resamples=50)
    monkeypatch.setattr("fastkd.evaluation.significance._BLOCK", 350)
    assert paired_test(a, b, "ndcg@10", permutations=500, resamples=50) == first
    other = paired_test(a, b, "ndcg@10", permutations=500, resamples=50, seed=1)
    assert other.p_value != first.p_value
    assert other.low != first.low


def test_no_difference_at_all():
    a = evaluation([0.1, 0.2, 0.3])
    found = paired_test(a, a, "ndcg@10", resamples=10)
    assert (found.p_value, found.t_p_value, found.mean_difference, found.low, found.high) == (1.0, 1.0, 0.0, 0.0, 0.0)


def test_the_same_difference_for_everyone():
    # Binary values: the differences are equal to the last bit and have no spread.
    found = paired_test(evaluation([1.0] * 5), evaluation([0.5] * 5), "ndcg@10", resamples=10)
    assert found.t_statistic == math.inf
    assert found.t_p_value == 0.0
    assert found.p_value == pytest.approx(2 / 2**5)


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (evaluation([1, 2]), evaluation([1, 2, 3]), "different users: 2 and 3 of them"),
        (evaluation([1, 2], users=[0, 4]), evaluation([1, 2], users=[0, 5]), "entry 1 is user 4 and user 5"),
        (evaluation([1, 2]), evaluation([1, 2], split="valid"), "split: 'test' and 'valid'"),
        (evaluation([1, 2]), evaluation([1, 2], mask="train+valid"), r"mask: 'train' and 'train\+valid'"),
        (evaluation([1, 2]), evaluation([1, 2], denominator="all_users"), "denominator"),
        (evaluation([1, 2]), evaluation([1, 2], metric="ndcg@20"), "no metric 'ndcg@10'.*Did you mean 'ndcg@20'"),
        (evaluation([1]), evaluation([1]), "at least 2 users, got 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, says):
    with pytest.raises(DataError, match=says):
        paired_test(a, b, "ndcg@10")


@pytest.mark.parametrize("options", [{"permutations": 0}, {"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_bad_options_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"{name}.*got {value}"):
        paired_test(evaluation([1, 2]), evaluation([2, 1]), "ndcg@10", **options)


def test_holm_by_hand():
    # m = 4: 0.005 * 4, 0.01 * 3, max(0.03, 0.03 * 2), max(0.06, 0.04 * 1).
    found = holm({"c": 0.03, "a": 0.005, "d": 0.04, "b": 0.01})
    assert list(found) == ["c", "a", "d", "b"]
    assert found == pytest.approx({"a": 0.02, "b": 0.03, "c": 0.06, "d": 0.06})


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_the_value_and_bonferroni(values):
    found = holm({str(i): p for i, p in enumerate(values)})
    for i, p in enumerate(values):
        assert p <= found[str(i)] <= min(1.0, p * len(values)) + 1e-15


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(DataError, match=r"'a' is 1\.2"):
        holm({"a": 1.2})
    with pytest.raises(DataError, match="nan"):
        holm({"a": math.nan})
