import pytest

from fastkd.core.errors import ConfigError, did_you_mean
from fastkd.core.registry import Registry


def test_entries_are_found_by_name_and_listed_in_order():
    table = Registry[int]("model")
    table.add("b", 2)
    table.register("a")(1)
    assert (table.get("a"), list(table), len(table), "b" in table) == (1, ["a", "b"], 2, True)


def test_a_miss_names_the_nearest_and_all_known():
    table = Registry[int]("model")
    table.add("lightgcn", 1)
    with pytest.raises(ConfigError, match=r"unknown model 'lightgnc'\. Did you mean 'lightgcn'\? Known: lightgcn"):
        table.get("lightgnc")


def test_a_name_is_taken_once():
    table = Registry[int]("model")
    table.add("a", 1)
    with pytest.raises(ConfigError, match="model 'a' is registered twice"):
        table.add("a", 2)


def test_no_suggestion_for_the_far_fetched():
    assert did_you_mean("zzz", ["alpha"]) == ""
