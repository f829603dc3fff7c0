import importlib

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from torch import nn

from fastkd.core.errors import ConfigError, DataError
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import IdMap
from fastkd.models.protocol import Recommender, Tables
from fastkd.serving.recommend import RecommendOptions, recommend

USERS, ITEMS = 29, 17


def whole_numbers(seed=0, users=USERS, items=ITEMS, dim=4):
    """Tables whose scores are exact in float32 and tie often."""
    rng = np.random.default_rng(seed)
    return Tables(*(torch.from_numpy(rng.integers(-2, 3, (n, dim)).astype(np.float32)) for n in (users, items)))


def number_ids(count, seed):
    return IdMap(np.random.default_rng(seed).permutation(10**6)[:count].astype(np.int64))


def text_ids(count, prefix):
    return IdMap(np.array([f'{prefix} "{i}", é' for i in range(count)]))


def seen_items(seed=3, full_user=None):
    seen = np.random.default_rng(seed).random((USERS, ITEMS)) < 0.4
    if full_user is not None:
        seen[full_user] = True
    return Interactions.from_pairs(*np.nonzero(seen), num_users=USERS, num_items=ITEMS)


def expected(tables, users, user_ids, item_ids, k, seen=None):
    """All rows by sorting each user's items."""
    rows = []
    for user in users:
        hidden = set() if seen is None else set(seen.row(user))
        scores = (tables.items.double() @ tables.users[user].double()).tolist()
        ranked = sorted((i for i in range(len(scores)) if i not in hidden), key=lambda i: (-scores[i], i))[:k]
        rows += [
            (user_ids.originals[user].item(), item_ids.originals[item].item(), rank, scores[item])
            for rank, item in enumerate(ranked, start=1)
        ]
    return rows


def read(path):
    reader = pyarrow.parquet.read_table if path.suffix == ".parquet" else pyarrow.csv.read_csv
    table = reader(path)
    assert table.column_names == ["user", "item", "rank", "score"]
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("ids", ["numbers", "text"])
def test_rows_are_those_of_a_sort_in_original_ids(tmp_path, suffix, ids):
    tables, seen = whole_numbers(), seen_items()
    maps = (
        (number_ids(USERS, 1), number_ids(ITEMS, 2))
        if ids == "numbers"
        else (text_ids(USERS, "u"), text_ids(ITEMS, "i"))
    )
    path = tmp_path / f"lists{suffix}"
    result = recommend(
        tables, path, user_ids=maps[0], item_ids=maps[1], exclude=seen, options=RecommendOptions(k=6, chunk=10)
    )
    wanted = expected(tables, range(USERS), *maps, 6, seen)
    assert read(path) == wanted
    assert (result.path, result.users, result.rows) == (path, USERS, len(wanted))
    assert result.short_users == sum(ITEMS - n < 6 for n in seen.degrees())


@pytest.mark.parametrize("chunk", [1, 7, 1000, None])
def test_the_chunk_changes_nothing_but_the_steps(tmp_path, chunk):
    steps = []
    options = RecommendOptions(k=5, chunk=chunk)
    path = tmp_path / "a.parquet"
    recommend(
        whole_numbers(),
        path,
        user_ids=IdMap.identity(USERS),
        item_ids=IdMap.identity(ITEMS),
        options=options,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert read(path) == expected(whole_numbers(), range(USERS), IdMap.identity(USERS), IdMap.identity(ITEMS), 5)
    assert steps[-1] == (USERS, USERS)
    assert len(steps) == -(-USERS // (chunk or USERS))
    # Small chunks are joined: one row group here, not one a chunk.
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 1


def test_full_groups_are_written_as_they_come(tmp_path, monkeypatch):
    # The room exports a function of the module's name, so the module is fetched by path.
    monkeypatch.setattr(importlib.import_module("fastkd.serving.recommend"), "_GROUP_ROWS", 20)
    path, maps = tmp_path / "a.parquet", (IdMap.identity(USERS), IdMap.identity(ITEMS))
    recommend(whole_numbers(), path, user_ids=maps[0], item_ids=maps[1], options=RecommendOptions(k=5, chunk=2))
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == -(-USERS * 5 // 20)
    assert read(path) == expected(whole_numbers(), range(USERS), *maps, 5)


def test_only_the_users_asked_for_in_their_order(tmp_path):
    maps, path = (number_ids(USERS, 1), number_ids(ITEMS, 2)), tmp_path / "some.csv"
    asked = maps[0].originals[[11, 3, 20]]
    recommend(whole_numbers(), path, user_ids=maps[0], item_ids=maps[1], users=asked, options=RecommendOptions(k=2))
    assert read(path) == expected(whole_numbers(), [11, 3, 20], *maps, 2)


def test_users_may_be_asked_for_as_python_strings(tmp_path):
    users, path = IdMap(np.array([f"u{u:03}" for u in range(USERS)])), tmp_path / "some.csv"
    asked = np.array(["u011", "u003"], dtype=object)
    recommend(
        whole_numbers(), path, user_ids=users, item_ids=number_ids(ITEMS, 2), users=asked, options=RecommendOptions(k=1)
    )
    assert [line.split(",")[0] for line in path.read_text().splitlines()[1:]] == ['"u011"', '"u003"']


def test_nobody_asked_for_gives_an_empty_file_with_its_columns(tmp_path):
    maps = (IdMap.identity(USERS), IdMap.identity(ITEMS))
    result = recommend(whole_numbers(), tmp_path / "a.parquet", user_ids=maps[0], item_ids=maps[1], users=[])
    assert (result.users, result.rows) == (0, 0)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["user", "item", "rank", "score"]
    assert len(table) == 0


def test_a_user_with_nothing_left_has_no_rows_and_padding_is_never_written(tmp_path):
    seen, path = seen_items(full_user=4), tmp_path / "a.parquet"
    maps = (IdMap.identity(USERS), IdMap.identity(ITEMS))
    result = recommend(
        whole_numbers(), path, user_ids=maps[0], item_ids=maps[1], exclude=seen, options=RecommendOptions(k=ITEMS)
    )
    rows = read(path)
    assert result.rows == len(rows) == USERS * ITEMS - seen.nnz
    assert all(user != 4 and item >= 0 and np.isfinite(score) for user, item, _, score in rows)
    assert not seen.contains([r[0] for r in rows], [r[1] for r in rows]).any()


def test_a_model_is_served_in_eval_mode(tmp_path):
    class Noisy(Recommender):
        def __init__(self):
            super().__init__()
            self.weight, self.dropout = nn.Parameter(whole_numbers().users), nn.Dropout(0.9)

        def tables(self):
            return Tables(self.dropout(self.weight), whole_numbers().items)

    maps, path = (IdMap.identity(USERS), IdMap.identity(ITEMS)), tmp_path / "a.csv"
    recommend(Noisy().train(), path, user_ids=maps[0], item_ids=maps[1], options=RecommendOptions(k=3))
    assert read(path) == expected(whole_numbers(), range(USERS), *maps, 3)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_a_failure_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path, suffix, error):
    path = tmp_path / f"lists{suffix}"
    path.write_bytes(b"old")

    def fail(done, total):
        if done >= 20:
            raise error

    with pytest.raises(type(error)):
        recommend(
            whole_numbers(),
            path,
            user_ids=IdMap.identity(USERS),
            item_ids=IdMap.identity(ITEMS),
            options=RecommendOptions(chunk=10),
            progress=fail,
        )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"users": [5, 99]}, DataError, r"users to serve: 1 unknown id\(s\), first: .*99"),
        ({"users": [5, 6, 5]}, DataError, "user 5 is asked for more than once"),
        ({"users": ["5"]}, DataError, "such as 5, the ids are int64"),
        ({"users": [[5]]}, DataError, r"shape \(1, 1\)"),
        ({"path": "lists.json"}, ConfigError, "'lists.json': the name must end in .parquet or .csv"),
        ({"options": RecommendOptions(k=18)}, ConfigError, "K = 18 is larger than the catalogue of 17 items"),
        ({"user_ids": IdMap.identity(3)}, DataError, "hold 3 users and 17 items, the tables 29 and 17"),
        ({"exclude": Interactions.empty(29, 16)}, DataError, "29 users x 16 items"),
    ],
)
def test_bad_questions_are_named_before_anything_is_written(tmp_path, change, error, says):
    arguments = {"user_ids": IdMap.identity(USERS), "item_ids": IdMap.identity(ITEMS), **change}
    path = tmp_path / arguments.pop("path", "lists.parquet")
    with pytest.raises(error, match=says):
        recommend(whole_numbers(), path, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"k": 0}, {"chunk": 0}, {"memory_budget_mb": 0}, {"k": True}, {"k": 2.5}])
def test_bad_options_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"{name} must be a positive integer, got {value}"):
        RecommendOptions(**options)


def test_an_unknown_compression_is_named_when_it_is_given():
    with pytest.raises(ConfigError, match=r"compression: 'zst' is not allowed\. Did you mean 'zstd'"):
        RecommendOptions(compression="zst")
