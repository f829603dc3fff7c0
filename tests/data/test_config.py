from pathlib import Path

import pytest

from fastkd.core import ConfigError
from fastkd.core.config import from_mapping, to_mapping
from fastkd.data import DataConfig, ReadOptions, SyntheticConfig


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"keep_ids": True, "user_core": 5}, "keep_ids=True keeps every id"),
        ({"num_items": 5}, "need keep_ids=True"),
        ({"keep_ids": True, "users_without_train": "drop"}, "needs keep_ids=False"),
        ({"valid_from_train": 1.0}, r"1\.0"),
        ({"ratios": (0.5, 0.1, 0.1)}, "0.5"),
        ({"path": Path("x"), "synthetic": SyntheticConfig()}, "not both"),
    ],
)
def test_contradictions_are_refused(bad, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"split": "leave-one-out"},
            "split: 'leave-one-out' is not allowed. Did you mean 'leave_one_out'.* One of: random",
        ),
        ({"split": None}, "split: None is not allowed"),
        ({"unlabelled": "droop"}, "unlabelled: 'droop'.* Did you mean 'drop'"),
        ({"users_without_train": "dorp"}, "users_without_train: 'dorp'.* Did you mean 'drop'"),
        ({"duplicates": "frist"}, "duplicates: 'frist'.* Did you mean 'first'"),
        ({"format": "parqet"}, "format: 'parqet'.* Did you mean 'parquet'"),
        ({"path": 5}, "path: expected Path, got 5"),
    ],
)
def test_values_that_mean_nothing_are_refused_in_python_too(bad, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**bad)


def test_reading_options_are_checked_too():
    with pytest.raises(ConfigError, match=r"format: 'cvs' is not allowed. Did you mean 'csv'"):
        ReadOptions(format="cvs")


def test_paths_may_be_text():
    config = DataConfig(path="data/x.csv", store="cache")
    assert (config.path, config.store) == (Path("data/x.csv"), Path("cache"))
    assert config == DataConfig(path=Path("data/x.csv"), store=Path("cache"))


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, False),
        ({"split": "column"}, False),
        ({"duplicates": "latest"}, True),
        ({"split": "leave_one_out"}, True),
        ({"split": "temporal"}, True),
        ({"split": "temporal_per_user"}, True),
    ],
)
def test_times_are_needed_where_they_decide(options, needed):
    config = DataConfig(**options)
    assert config.needs_time is needed
    assert config.read_options().lenient_time is not needed


def test_configuration_travels_through_plain_values():
    config = DataConfig(path=Path("x.csv"), split="leave_one_out", columns=("a", "b"))
    assert from_mapping(DataConfig, to_mapping(config)) == config
    nested = from_mapping(DataConfig, {"synthetic": {"num_users": 30}})
    assert nested.synthetic == SyntheticConfig(num_users=30)
    with pytest.raises(ConfigError, match=r"'user_cor'.*'user_core'"):
        from_mapping(DataConfig, {"user_cor": 5})


@pytest.mark.parametrize("delimiter", ["||", "", "\n", '"', "§"])
def test_a_delimiter_is_one_character(delimiter):
    with pytest.raises(ConfigError, match=r"delimiter must be one character .*got "):
        DataConfig(delimiter=delimiter)
    with pytest.raises(ConfigError, match="one character"):
        ReadOptions(delimiter=delimiter)
    assert DataConfig(delimiter="::").delimiter == "::"
