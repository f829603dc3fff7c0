import pytest

from fastkd.cli.sampler import RANDOM_TRIALS, proposed

SPACE = {"weight": {"low": 0.001, "high": 10.0, "log": True}, "n": {"low": 2, "high": 9}, "kind": ["a", "b", None]}
OWN = {"weight": 0.1, "n": 4, "kind": "a"}


def next_values(rows, seed=0, stream="s", space=SPACE, own=OWN):
    return proposed(space, own, rows, seed, stream)


def test_a_proposal_is_a_function_of_seed_stream_and_rows():
    rows = [(OWN, 0.2)]
    first = next_values(rows)
    assert first == next_values(rows)
    assert first != next_values(rows, seed=1)
    assert first != next_values(rows, stream="t")
    assert first != next_values([*rows, (first, 0.1)])


def test_values_lie_in_their_space_with_their_types():
    rows = [(OWN, 0.2)]
    for _ in range(12):
        values = next_values(rows)
        assert list(values) == list(SPACE)
        assert 0.001 <= values["weight"] <= 10.0
        assert isinstance(values["n"], int)
        assert 2 <= values["n"] <= 9
        assert values["kind"] in SPACE["kind"]
        assert all(values != dict(before) for before, _ in rows)
        rows.append((values, 0.5))


def test_it_learns_where_the_metric_is_high():
    rows = [(OWN, 0.0)]
    space = {"x": {"low": 0.0, "high": 1.0}}
    rows = [({"x": 0.5}, -0.04)]
    for _ in range(30):
        values = next_values(rows, space=space, own={"x": 0.5})
        rows.append((values, -((values["x"] - 0.3) ** 2)))
    early, late = rows[1:RANDOM_TRIALS], rows[-10:]
    assert sum(-v for _, v in late) / len(late) < 0.3 * sum(-v for _, v in early) / len(early)


@pytest.mark.parametrize(
    ("space", "own"),
    [
        ({"x": {"low": 0.1, "high": 1.0, "log": True}}, {"x": 50.0}),
        ({"x": {"low": 2, "high": 5}}, {"x": 9}),
        ({"x": ["a", "b"]}, {"x": "c"}),
        ({"x": {"low": 1, "high": 5}}, {"x": None}),
        ({"x": {"low": 0.1, "high": 1.0, "log": True}}, {"x": 0.0}),
    ],
)
def test_the_students_own_value_may_lie_outside(space, own):
    rows = [(own, 0.3)]
    for _ in range(RANDOM_TRIALS + 3):
        rows.append((next_values(rows, space=space, own=own), 0.1))
    assert all(type(v["x"]) is type(rows[1][0]["x"]) for v, _ in rows[1:])


def test_failed_trials_are_not_learned_from_but_not_repeated():
    rows = [(OWN, 0.2), (next_values([(OWN, 0.2)]), None)]
    assert next_values(rows) not in [r[0] for r in rows]


def test_a_space_with_nothing_new_repeats():
    rows = [({"x": 1}, 0.1), ({"x": 2}, 0.2)]
    assert next_values(rows, space={"x": [1, 2]}, own={"x": 1})["x"] in (1, 2)
