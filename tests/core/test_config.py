from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastkd.core.config import conform, from_mapping, read_yaml, to_mapping, to_yaml, with_overrides
from fastkd.core.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner = field(default_factory=Inner)
    ks: tuple[int, ...] = (10, 20)
    pair: tuple[int, str] = (1, "x")
    path: Path | None = None
    flag: bool = False
    options: dict[str, float] = field(default_factory=dict)


def test_nested_values_are_typed():
    built = from_mapping(
        Outer, {"count": 3, "inner": {"rate": 1}, "ks": [5], "path": "a/b", "options": {"x": 2}, "pair": [2, "y"]}
    )
    assert built == Outer(3, Inner(1.0), (5,), (2, "y"), Path("a/b"), False, {"x": 2.0})
    assert isinstance(built.inner.rate, float)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"count": 1, "iner": {}}, "unknown key 'iner'. Did you mean 'inner'?"),
        ({"count": 1, "inner": {"rat": 1}}, "unknown key 'inner.rat'. Did you mean 'rate'?"),
        ({}, "missing key count"),
        ({"count": 1.0}, "count: expected int, got 1.0"),
        ({"count": True}, "count: expected int, got True"),
        ({"count": 1, "inner": {"kind": "c"}}, "inner.kind: 'c' is not allowed"),
        ({"count": 1, "inner": {"rate": "fast"}}, "inner.rate: expected float, got 'fast'"),
        ({"count": 1, "inner": {"rate": "nan"}}, "inner.rate: expected float, got 'nan'"),
        ({"count": 1, "ks": 3}, "ks: expected a list, got 3"),
        ({"count": 1, "ks": [1, "x"]}, "ks[1]: expected int, got 'x'"),
        ({"count": 1, "pair": [1]}, "pair: expected 2 values, got 1"),
        ({"count": 1, "flag": 1}, "flag: expected bool, got 1"),
        ({"count": 1, "inner": 3}, "inner: expected a mapping of Inner, got 3"),
        ({"count": 1, "options": {"x": "y"}}, "options.x: expected float"),
    ],
)
def test_wrong_values_are_named_with_their_path(values, named):
    with pytest.raises(ConfigError) as error:
        from_mapping(Outer, values)
    assert named in str(error.value)


@dataclass(frozen=True)
class Settled:
    kind: Literal["a", "b"] = "a"
    other: Literal["left", "right"] | None = None
    sign: Literal[1, -1] = 1
    many: tuple[Literal["x", "y"], ...] = ()
    path: Path | None = None
    free: str = "anything"

    def __post_init__(self):
        conform(self)


def test_choices_hold_in_python_as_in_a_file():
    built = Settled("b", "left", -1, ["x", "y"], "a/b", 5)
    assert built == Settled("b", "left", -1, ("x", "y"), Path("a/b"), 5)
    assert from_mapping(Settled, {"path": "c", "many": ["x"]}) == Settled(path=Path("c"), many=("x",))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kind": "c"}, "kind: 'c' is not allowed. One of: a, b"),
        ({"kind": None}, "kind: None is not allowed"),
        ({"other": "rigth"}, "other: 'rigth' is not allowed. Did you mean 'right'? One of: left, right"),
        ({"sign": True}, "sign: True is not allowed"),
        ({"many": ("x", "z")}, "many[1]: 'z' is not allowed"),
        ({"many": "x"}, "many: expected a list, got 'x'"),
        ({"path": 3}, "path: expected Path, got 3 (int)"),
    ],
)
def test_a_choice_that_is_none_is_refused_in_python_as_in_a_file(values, named):
    for build in (lambda: Settled(**values), lambda: from_mapping(Settled, values)):
        with pytest.raises(ConfigError) as error:
            build()
        assert named in str(error.value)


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("count: 1\ninner: {rate: 1e-3}\n")
    assert from_mapping(Outer, read_yaml(path)).inner.rate == 1e-3


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers(), max_size=4))
def test_mapping_round_trip(count, rate, ks):
    built = Outer(count, Inner(rate, "b"), tuple(ks), path=Path("x"))
    assert from_mapping(Outer, to_mapping(built)) == built


def test_yaml_round_trip(tmp_path):
    path = tmp_path / "c.yaml"
    built = Outer(2, Inner(1e-10))
    path.write_text(to_yaml(built))
    assert from_mapping(Outer, read_yaml(path)) == built


@pytest.mark.parametrize(
    ("text", "named"), [("a: [1", "is not YAML"), ("- 1\n", "expected a mapping at the top level, got list")]
)
def test_malformed_files_are_named(tmp_path, text, named):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert named in str(error.value)
    assert "bad.yaml" in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        read_yaml(tmp_path / "nowhere.yaml")


def test_yaml_is_never_executed(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_yaml(path)


def test_overrides_reach_nested_keys_and_leave_the_source_alone():
    source = {"inner": {"rate": 1.0}, "count": 1}
    merged = with_overrides(source, ["inner.rate=0.5", "ks=[1, 2]", "inner.kind=b"])
    assert merged == {"inner": {"rate": 0.5, "kind": "b"}, "count": 1, "ks": [1, 2]}
    assert source == {"inner": {"rate": 1.0}, "count": 1}
    with pytest.raises(ConfigError, match="'rate' is not of the form"):
        with_overrides(source, ["rate"])


def test_deep_overrides_do_not_reach_into_the_source():
    source = {"a": {"b": {"c": 1}}}
    with_overrides(source, ["a.b.c=2"])
    assert source["a"]["b"]["c"] == 1
