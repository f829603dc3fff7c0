import http.server
import json
import threading

import numpy as np
import pytest

from fastkd.data import SOURCES, DataConfig, Source, open_store


@pytest.fixture
def clicks(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text(
        "user,item,rating\n" + "".join(f"u{u},i{(u + 3 * j) % 25},{j % 5 + 1}\n" for u in range(30) for j in range(8))
    )
    return path


def test_an_interaction_file_becomes_a_store(fastkd, clicks, tmp_path):
    shown = fastkd(
        "data", "prepare", clicks, "--out", tmp_path / "store", "--set", "ratios=[0.5, 0.25, 0.25]", "--json"
    )
    summary = json.loads(shown.stdout)
    dataset = open_store(tmp_path / "store")
    assert summary["users"] == dataset.num_users == 30
    assert summary["rows"] == {"train": 120, "valid": 60, "test": 60}
    again = json.loads(fastkd("data", "info", tmp_path / "store", "--json").stdout)
    assert again == summary


def test_a_dry_preparation_prints_a_file_that_prepares(fastkd, clicks, tmp_path):
    shown = fastkd("data", "prepare", clicks, "--out", tmp_path / "a", "--set", "user_core=2", "--dry-run").stdout
    assert not (tmp_path / "a").exists()
    (tmp_path / "data.yaml").write_text(shown)
    fastkd("data", "prepare", tmp_path / "data.yaml", "--out", tmp_path / "b")
    assert open_store(tmp_path / "b").num_users == 30


def test_bad_data_is_3_and_bad_options_are_2(fastkd, clicks, tmp_path):
    assert "absent.csv" in fastkd("data", "prepare", tmp_path / "absent.csv", "--out", tmp_path / "x", code=3).stderr
    args = ("data", "prepare", clicks, "--out", tmp_path / "x", "--set")
    assert "user_kore" in fastkd(*args, "user_kore=2", code=2).stderr
    assert "99" in fastkd(*args, "user_core=99", code=3).stderr
    assert not (tmp_path / "x").exists()


def test_an_existing_store_is_replaced_only_when_asked(fastkd, clicks, tmp_path):
    args = ("data", "prepare", clicks, "--out", tmp_path / "store")
    fastkd(*args)
    assert "store exists; overwrite=True replaces it, on the command line --overwrite" in fastkd(*args, code=3).stderr
    fastkd(*args, "--set", "ratios=[1, 0, 0]", "--overwrite")
    assert open_store(tmp_path / "store").test.nnz == 0
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.txt").write_text("precious")
    refused = fastkd("data", "prepare", clicks, "--out", tmp_path / "thesis", "--overwrite", code=3)
    assert "is not a store" in refused.stderr
    assert (tmp_path / "thesis" / "draft.txt").read_text() == "precious"


def test_a_planted_catalogue_brings_its_best_ranking(fastkd, tmp_path):
    sizes = (
        "--set",
        "num_users=40",
        "--set",
        "num_items=60",
        "--set",
        "interactions_per_user=10",
        "--set",
        "num_clusters=4",
    )
    shown = fastkd("data", "synth", "--out", tmp_path / "p", *sizes)
    assert "40" in shown.stdout
    assert open_store(tmp_path / "p").num_items == 60
    assert (tmp_path / "p-oracle.safetensors").is_file()
    fastkd("data", "synth", "--out", tmp_path / "p", *sizes, code=3)
    fastkd("data", "synth", "--out", tmp_path / "p", *sizes, "--set", "seed=1", "--overwrite")
    assert "num_users: 40" in fastkd("data", "synth", "--out", tmp_path / "q", *sizes, "--dry-run").stdout
    assert "num_item" in fastkd("data", "synth", "--out", tmp_path / "q", "--set", "num_item=3", code=2).stderr


def test_a_study_folder_and_a_file_can_be_looked_at(fastkd, finished, clicks, tmp_path):
    assert "220" in fastkd("data", "info", finished).stdout
    assert "30" in fastkd("data", "info", clicks).stdout
    assert str(tmp_path) in fastkd("data", "info", tmp_path, code=3).stderr


@pytest.fixture
def songs(tmp_path):
    path = tmp_path / "songs.csv"
    rows = [f"u{u},s{(u + j) % 9},spring\n" for u in range(12) for j in range(5)]
    path.write_text("listener,song,date\n" + "".join(rows + rows[:7]))
    return path


def test_a_file_with_columns_of_its_own_can_be_looked_at(fastkd, songs):
    refused = fastkd("data", "info", songs, code=3).stderr
    assert "--set user_column=... (in a study data.user_column=...)" in refused
    names = ("--set", "user_column=listener", "--set", "item_column=song")
    shown = fastkd("data", "info", songs, *names)
    for line in ("rows read 67", "columns read user 'listener', item 'song'", "left out: repeats 7", "users 12"):
        assert line in " ".join(shown.stdout.split())
    assert "note: " in shown.stderr
    assert "column 'date', row 1: expected a number or an ISO date" in shown.stderr
    assert "split=random" in shown.stderr
    quiet = fastkd("data", "info", songs, *names, "--set", "time_column=''", "--json")
    assert "note: " not in quiet.stderr
    assert json.loads(quiet.stdout)["reading"] == {
        "rows": 67,
        "columns": {"user": "listener", "item": "song"},
        "left_out": {"unlabelled": 0, "min_rating": 0, "duplicates": 7, "core": 0, "users_without_train": 0},
    }
    assert (
        "row 1: expected a number or an ISO date"
        in fastkd("data", "info", songs, *names, "--set", "split=leave_one_out", code=3).stderr
    )
    assert (
        "Did you mean 'leave_one_out'" in fastkd("data", "info", songs, "--set", "split=leave-one-out", code=2).stderr
    )


def test_what_was_read_stays_with_the_store(fastkd, songs, tmp_path):
    names = ("--set", "user_column=listener", "--set", "item_column=song", "--set", "time_column=''")
    fastkd("data", "prepare", songs, "--out", tmp_path / "store", *names)
    assert "left out: repeats" in fastkd("data", "info", tmp_path / "store").stdout
    refused = fastkd("data", "info", tmp_path / "store", "--set", "user_core=2", code=2).stderr
    assert "is a store, prepared already; --set user_core=2 is for files" in refused


def test_data_sets_are_fetched_and_listed(fastkd, tmp_path, monkeypatch):
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "clicks.csv").write_text("user,item\n1,2\n")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "host"))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/clicks.csv"
    source = Source("here", "Here", "free", {"clicks.csv": url}, "clicks.csv", config=DataConfig(format="csv"))
    monkeypatch.setitem(SOURCES._entries, "here", source)
    try:
        shown = json.loads(fastkd("data", "fetch", "here", "--folder", tmp_path / "got", "--json").stdout)
        assert shown["recorded"] == ["clicks.csv"]
        assert (tmp_path / "got" / "here" / "clicks.csv").read_text().startswith("user,item")
    finally:
        server.shutdown()
        server.server_close()
    assert "here" in fastkd("data", "fetch").stdout
    assert "Did you mean 'here'" in fastkd("data", "fetch", "heer", code=2).stderr


def test_ids_survive(fastkd, clicks, tmp_path):
    fastkd("data", "prepare", clicks, "--out", tmp_path / "store")
    assert set(np.unique(open_store(tmp_path / "store").users.originals)) == {f"u{u}" for u in range(30)}
