import os

import pytest

from fastkd.cli import config
from fastkd.core.errors import ConfigError
from fastkd.data import DataConfig, SyntheticConfig, load_dataset, save_store


def test_a_preset_or_a_file_but_not_both(write, study):
    path = write(study)
    with pytest.raises(ConfigError, match=r"got both; presets: .*citeulike"):
        config.study_config("demo", path)
    with pytest.raises(ConfigError, match="got neither"):
        config.study_config(None, None)
    assert config.study_config("demo", None).name == "demo"
    assert config.study_config(None, path).name == "tiny"


def test_overrides_reach_nested_values(write, study):
    made = config.study_config(
        None, write(study), ["student.model.dim=5", "seeds=[3, 4]", "methods.rrd.options.top=20"]
    )
    assert made.student.model.dim == 5
    assert made.seeds == (3, 4)
    assert made.methods["rrd"].options["top"] == 20


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("student.model.dimm=5", "student.model.dimm.*dim"),
        ("student.model.dim=big", "student.model.dim.*'big'"),
        ("methods.rrd.options.topp=3", "methods.rrd.options.topp.*top"),
        ("methods.rrdd={}", "'rrdd'.*Did you mean 'rrd'"),
        ("methods.rrd.training.lrr=3", "methods.rrd.training.lrr.*lr"),
        ("seeds=[1, 1]", r"\[1, 1\]"),
        ("name=../up", "'../up'"),
        ("methods.none.options.weight=3", "methods.none"),
        ("methods.rrd.warm_start=bd", "'bd' is no student before it"),
        ("nonsense", "'nonsense'"),
        ("seeds=[1", r"'seeds=\[1'"),
    ],
)
def test_a_bad_override_names_itself(write, study, override, said):
    with pytest.raises(ConfigError, match=said):
        config.study_config(None, write(study), [override])


def test_teacher_files_replace_the_trained_teacher(write, study):
    made = config.study_config(None, write(study), teacher=["u.npy", "i.npy"])
    assert made.teacher_files == ("u.npy", "i.npy")


def test_a_folder_without_a_study_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        config.stored_study(tmp_path)


def test_data_options_come_from_a_file_or_a_path(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("data:\n  path: x.csv\n  user_core: 3\n")
    assert config.data_config(path, ["item_core=2"]).item_core == 2
    assert config.data_config(path).user_core == 3
    assert str(config.data_config(tmp_path / "x.csv").path).endswith("x.csv")


def test_lists_of_names_and_seeds():
    assert config.split_list(None) is None
    assert config.split_list("none, rrd") == ("none", "rrd")
    assert config.seed_list("0,2") == (0, 2)
    with pytest.raises(ConfigError, match="','"):
        config.split_list(",")
    with pytest.raises(ConfigError, match=r"'-1' in '0,-1'"):
        config.seed_list("0,-1")


def test_differences_name_keys_and_both_values():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert config.differences(old, new) == ["a.c: 2 -> 5", "d: 3 -> None", "e: None -> 4"]
    assert config.differences(old, old) == []


def test_the_data_folder_has_a_default_that_must_exist(tmp_path, monkeypatch):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.delenv("FASTKD_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    config.find_data()
    assert "FASTKD_DATA" not in os.environ
    monkeypatch.chdir(tmp_path / "here")
    config.find_data()
    assert os.environ["FASTKD_DATA"] == "../shared/data"
    monkeypatch.setenv("FASTKD_DATA", "/other")
    config.find_data()
    assert os.environ["FASTKD_DATA"] == "/other"


def test_a_store_in_place_of_a_file_is_not_read_by_the_options_of_that_file(tmp_path):
    data = load_dataset(DataConfig(synthetic=SyntheticConfig(num_users=20, num_items=80)))
    store = save_store(data, tmp_path / "store")
    for preset in ("ml1m", "demo"):
        made = config.study_config(preset, None, [f"data.path={store}"])
        assert made.data == DataConfig(path=store)
        assert load_dataset(made.data).content_hash() == data.content_hash()
    made = config.study_config("ml1m", None, [f"data.path={store}", "data.user_core=5"])
    with pytest.raises(ConfigError, match=r"user_core=5, but .*store is a store"):
        load_dataset(made.data)
