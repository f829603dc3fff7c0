import json
import re

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from fastkd import ops
from fastkd.cli.commands.recommend import read_users
from fastkd.cli.progress import Counter
from fastkd.cli.runs import load_run
from fastkd.core.errors import DataError
from fastkd.data import open_store
from fastkd.evaluation import streaming

USERS = [f"user-{u}" for u in range(50)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A study over text ids, teacher trained."""
    import yaml
    from typer.testing import CliRunner

    from fastkd.cli.main import app

    root = tmp_path_factory.mktemp("shop")
    rows = [(u, f"item/{(i * 7 + 3 * j) % 40}") for i, u in enumerate(USERS) for j in range(12)]
    (root / "clicks.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in rows))
    values = {
        "name": "shop",
        "data": {"path": str(root / "clicks.csv")},
        "teacher": {"model": {"dim": 8}, "training": {"epochs": 2, "batch_size": 64, "eval_every": 1}},
        "student": {"model": {"dim": 2}, "training": {"epochs": 1, "batch_size": 64, "eval_every": 1}},
        "evaluation": {"ks": [10]},
    }
    (root / "study.yaml").write_text(yaml.safe_dump(values))
    done = CliRunner().invoke(app, ["train", str(root / "study.yaml"), "--folder", str(root / "run")])
    assert done.exit_code == 0, done.stderr
    return root, {u: {i for v, i in rows if v == u} for u in USERS}


def lists(path):
    table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    return table.to_pydict()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_lists_come_in_original_ids_without_seen_items(fastkd, shop, tmp_path, suffix):
    root, seen = shop
    out = tmp_path / f"lists{suffix}"
    fastkd("recommend", root / "run" / "teacher", "--k", "5", "--out", out)
    got = lists(out)
    assert len(got["user"]) == 50 * 5
    assert set(got["user"]) == set(USERS)
    assert all(i not in seen[u] for u, i in zip(got["user"], got["item"], strict=True))
    assert got["rank"][:5] == [1, 2, 3, 4, 5]


def test_the_lists_are_the_models_own_ranking(fastkd, shop, tmp_path):
    root, seen = shop
    dataset = open_store(root / "run" / "data")
    tables = load_run(root / "run" / "teacher", dataset).frozen_tables()
    fastkd("recommend", root / "run" / "teacher", "--k", "3", "--out", tmp_path / "l.parquet")
    got = lists(tmp_path / "l.parquet")
    scores = (tables.users.double() @ tables.items.double().T).numpy()
    user = dataset.users.encode(np.array(["user-7"]))[0]
    fresh = [i for i in range(dataset.num_items) if dataset.items.originals[i] not in seen["user-7"]]
    best = sorted(fresh, key=lambda i: (-scores[user, i], i))[:3]
    mine = [i for u, i in zip(got["user"], got["item"], strict=True) if u == "user-7"]
    assert mine == [dataset.items.originals[i] for i in best]


def test_seen_items_and_chosen_users(fastkd, shop, tmp_path):
    root, seen = shop
    (tmp_path / "users.txt").write_text("user-3\n\nuser-1\n")
    args = ("--k", "40", "--users", tmp_path / "users.txt", "--include-seen", "--json")
    shown = json.loads(fastkd("recommend", root / "run" / "teacher", "--out", tmp_path / "l.csv", *args).stdout)
    assert (shown["users"], shown["rows"], shown["short_users"]) == (2, 80, 0)
    got = lists(tmp_path / "l.csv")
    assert list(dict.fromkeys(got["user"])) == ["user-3", "user-1"]
    assert seen["user-3"] <= set(got["item"])


def test_lists_that_are_to_teach_hold_what_is_held_out(fastkd, shop, tmp_path):
    root, _ = shop
    dataset = open_store(root / "run" / "data")
    run, out = root / "run" / "teacher", tmp_path / "l.parquet"
    fastkd("recommend", run, "--k", "40", "--include-held-out", "--out", out)
    got = lists(out)
    pairs = zip(dataset.users.encode(np.array(got["user"])), dataset.items.encode(np.array(got["item"])), strict=True)
    found = set(pairs)
    left = {(u, i) for u in range(50) for i in range(40)} - {
        (u, i) for u in range(50) for i in dataset.train.row(u).tolist()
    }
    assert found == left
    assert pyarrow.parquet.read_schema(out).metadata[b"fastkd.ids"] == b"original"


def test_short_lists_are_told(fastkd, shop, tmp_path):
    root, _ = shop
    shown = fastkd("recommend", root / "run" / "teacher", "--k", "40", "--out", tmp_path / "l.csv").stderr
    assert "50 users have fewer than 40 items left" in shown


def test_a_dry_run_tells_the_cost_and_ranks_nothing(fastkd, shop, tmp_path, monkeypatch):
    root, _ = shop
    run, out = root / "run" / "teacher", tmp_path / "l.csv"

    def ranked(*_, **__):
        raise AssertionError("ranked")

    monkeypatch.setattr(ops, "rank_topk", ranked)
    shown = fastkd("recommend", run, "--k", "5", "--out", out, "--dry-run").stdout
    assert "50 users, 50 at a time: numba on cpu" in shown
    assert re.search(r"predicted, [\d.e-]+ GB moved, [\d.]+ MB held beyond the tables \(modelled", shown)
    assert "rank_topk: 50 users x 40 items, D = 8, K = 5" in shown
    found = json.loads(fastkd("recommend", run, "--k", "5", "--out", out, "--dry-run", "--json").stdout)
    assert (found["users"], found["chunks"], found["backend"]) == (50, 1, "numba")
    assert found["predicted"]["seconds"] > 0
    assert found["predicted"]["bytes_moved"] >= 40 * 8 * 4
    assert "l.txt" in fastkd("recommend", run, "--k", "5", "--out", tmp_path / "l.txt", "--dry-run", code=2).stderr
    assert "9999" in fastkd("recommend", run, "--k", "9999", "--out", out, "--dry-run", code=2).stderr
    assert not list(tmp_path.iterdir())


def test_progress_goes_from_nothing_to_everybody(fastkd, shop, tmp_path, monkeypatch):
    root, _ = shop
    seen = []

    def told(counter):
        seen.append((counter.label, counter.done, counter.total, counter.rows))

    monkeypatch.setattr(Counter, "advance", recording(Counter.advance, told))
    monkeypatch.setattr(streaming, "_MAX_CHUNK", 16)
    fastkd("recommend", root / "run" / "teacher", "--k", "5", "--out", tmp_path / "l.csv")
    assert seen == [("recommending", done, 50, done) for done in (16, 32, 48, 50)]


def recording(advance, told):
    """``Counter.advance``, and ``told`` of the counter after it."""

    def wrapped(counter, *arguments, **options):
        advance(counter, *arguments, **options)
        told(counter)

    return wrapped


def test_bad_input_is_named(fastkd, shop, finished, tmp_path):
    root, _ = shop
    run = root / "run" / "teacher"
    (tmp_path / "users.txt").write_text("stranger\n")
    args = ("--users", tmp_path / "users.txt")
    assert "stranger" in fastkd("recommend", run, "--k", "5", "--out", tmp_path / "l.csv", *args, code=3).stderr
    assert "l.txt" in fastkd("recommend", run, "--k", "5", "--out", tmp_path / "l.txt", code=2).stderr
    assert "9999" in fastkd("recommend", run, "--k", "9999", "--out", tmp_path / "l.csv", code=2).stderr
    assert not (tmp_path / "l.csv").exists()
    with pytest.raises(DataError, match="line 1: 'stranger'"):
        read_users(tmp_path / "users.txt", open_store(finished / "data"))
    with pytest.raises(DataError, match=r"absent\.txt"):
        read_users(tmp_path / "absent.txt", open_store(finished / "data"))


@pytest.mark.parametrize("bad", ["²", "1.5", "9" * 20, str(2**63), "-", "1 2"])
def test_a_user_id_that_is_no_integer_is_named_with_file_and_line(fastkd, finished, tmp_path, bad):
    file = tmp_path / "users.txt"
    file.write_text(f"3\n\n{bad}\n", encoding="utf-8")
    args = ("--out", tmp_path / "l.csv", "--users", file)
    shown = fastkd("recommend", finished / "teacher", *args, code=3).stderr
    assert f"{file}, line 3: '{bad}' is no 64-bit integer" in shown


def test_a_byte_order_mark_is_no_part_of_the_first_user(shop, finished, tmp_path):
    root, _ = shop
    (tmp_path / "users.txt").write_text("3\n-0\n", encoding="utf-8-sig")
    assert read_users(tmp_path / "users.txt", open_store(finished / "data")).tolist() == [3, 0]
    (tmp_path / "users.txt").write_text("user-3\n", encoding="utf-8-sig")
    assert read_users(tmp_path / "users.txt", open_store(root / "run" / "data")).tolist() == ["user-3"]


def test_everything_and_all_but_training_items_exclude_each_other(fastkd, finished, tmp_path):
    args = ("--out", tmp_path / "l.csv", "--include-seen", "--include-held-out")
    shown = fastkd("recommend", finished / "teacher", *args, code=2).stderr
    assert "--include-seen leaves nothing out, --include-held-out leaves out training items; give one of them" in shown
    assert not (tmp_path / "l.csv").exists()
