from dataclasses import replace

import numpy as np
import pytest

import fastkd.data.loading as loading
from fastkd.core import ConfigError, DataError
from fastkd.data import DataConfig, SyntheticConfig, load_dataset, save_store


def write(path, seed=0):
    rng = np.random.default_rng(seed)
    rows = [f"u{u:02},{i * 10}" for u in range(20) for i in rng.permutation(30)[:12]]
    path.write_text("user,item\n" + "\n".join(rows) + "\n")


def test_store_is_made_once_and_never_stale(tmp_path):
    path = tmp_path / "mine.csv"
    write(path)
    config = DataConfig(path=path, store=tmp_path / "cache")
    first = load_dataset(config)
    made = (tmp_path / "cache" / "manifest.json").stat().st_mtime_ns
    assert load_dataset(config).content_hash() == first.content_hash()
    assert (tmp_path / "cache" / "manifest.json").stat().st_mtime_ns == made
    assert load_dataset(DataConfig(store=tmp_path / "cache")).content_hash() == first.content_hash()
    with pytest.raises(DataError, match=r"cache was made otherwise \(differs in: seed\)"):
        load_dataset(replace(config, seed=1))
    write(path, seed=2)
    with pytest.raises(DataError, match="differs in: source"):
        load_dataset(config)


def test_path_may_be_a_store_and_synthetic_needs_none(tmp_path):
    made = load_dataset(DataConfig(synthetic=SyntheticConfig(num_users=20, num_items=80), name="tiny"))
    assert made.name == "tiny"
    save_store(made, tmp_path / "s")
    assert load_dataset(DataConfig(path=tmp_path / "s")).content_hash() == made.content_hash()


def test_a_store_that_appears_while_one_is_made_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "mine.csv"
    write(path)
    config = DataConfig(path=path, store=tmp_path / "cache")
    build = loading._build

    def slower(config, source):
        monkeypatch.setattr(loading, "_build", build)
        load_dataset(config)
        return build(config, source)

    monkeypatch.setattr(loading, "_build", slower)
    assert load_dataset(config).content_hash() == load_dataset(config).content_hash()
    made = load_dataset(DataConfig(path=path))
    monkeypatch.setattr(loading, "_build", lambda config, source: (save_store(made, config.store), made)[1])
    with pytest.raises(DataError, match="cache2 was made otherwise"):
        load_dataset(replace(config, store=tmp_path / "cache2"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "cache2", "mine.csv"]


@pytest.mark.parametrize("options", [{"split": "leave_one_out"}, {"user_core": 50}, {"seed": 9}, {"time_column": ""}])
def test_a_store_takes_no_options_that_were_fixed_when_it_was_made(tmp_path, options):
    made = load_dataset(DataConfig(synthetic=SyntheticConfig(num_users=20, num_items=80)))
    save_store(made, tmp_path / "s")
    (name, value), *_ = options.items()
    for source in ({"path": tmp_path / "s"}, {"store": tmp_path / "s"}):
        with pytest.raises(ConfigError, match=rf"{name}={value!r}, but .*s is a store: .*fixed when it was made"):
            load_dataset(DataConfig(**source, **options))
        assert load_dataset(DataConfig(**source, name="mine")).name == "mine"
