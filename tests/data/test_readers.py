import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from fastkd.core import DataError
from fastkd.data import InteractionLog, ReadOptions, read_interactions

ROWS = {"user_id": ["b", "a", "b"], "item_id": [3, 1, 2], "rating": [4.0, 5.0, 1.0], "timestamp": [30, 10, 20]}


def check(log):
    assert log.user.tolist() == ROWS["user_id"]
    assert log.item.tolist() == ROWS["item_id"]
    assert log.rating.tolist() == ROWS["rating"]
    assert log.time.tolist() == ROWS["timestamp"]


def save(kind, path):
    frame = pd.DataFrame(ROWS)
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind == "inter":
        header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        path.write_text(header + frame.to_csv(index=False, header=False, sep="\t"))
    elif kind == "dat":
        path.write_text("".join("::".join(map(str, row)) + "\n" for row in frame.itertuples(index=False)))


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "inter", "dat"])
def test_every_table_format_reads_the_same(kind, tmp_path):
    save(kind, tmp_path / f"data.{kind}")
    check(read_interactions(tmp_path / f"data.{kind}"))


def test_frames_without_depending_on_their_libraries():
    check(read_interactions(pd.DataFrame(ROWS)))
    check(read_interactions(pl.DataFrame(ROWS)))
    check(read_interactions(pa.table(ROWS)))
    check(read_interactions(pd.DataFrame(ROWS).astype({"user_id": "category"})))
    check(read_interactions(pl.DataFrame(ROWS).with_columns(pl.col("user_id").cast(pl.Categorical))))


def test_frame_problems_are_named():
    with pytest.raises(DataError, match=r"pandas DataFrame: no user column.*'a', 'b'"):
        read_interactions(pd.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(DataError, match="polars DataFrame: column 'user', row 2: null id"):
        read_interactions(pl.DataFrame({"user": [1, None], "item": [1, 2]}))
    with pytest.raises(DataError, match="pandas DataFrame: column 'user', row 2: null id"):
        read_interactions(pd.DataFrame({"user": [1, None], "item": [1, 2]}))
    with pytest.raises(DataError, match="mixes types"):
        read_interactions(pd.DataFrame({"user": [1, "x"], "item": [1, 2]}))
    with pytest.raises(DataError, match="cannot read list"):
        read_interactions([1, 2])


def test_a_log_passes_through():
    log = InteractionLog.from_arrays([0], [0])
    assert read_interactions(log) is log


def test_missing_file_names_the_nearest(tmp_path, monkeypatch):
    save("csv", tmp_path / "ratings.csv")
    with pytest.raises(DataError, match=r"ratingz\.csv\. Did you mean 'ratings\.csv'"):
        read_interactions(tmp_path / "ratingz.csv")
    monkeypatch.setenv("FASTKD_DATA", str(tmp_path))
    monkeypatch.chdir("/")
    check(read_interactions("ratings.csv"))
    with pytest.raises(DataError, match=r"no such file: nope\.csv nor .*nope\.csv"):
        read_interactions("nope.csv")


def test_unknown_extension_lists_the_known(tmp_path):
    (tmp_path / "d.xyz").write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match=r"'\.xyz'; known: \.parquet"):
        read_interactions(tmp_path / "d.xyz")
    assert len(read_interactions(tmp_path / "d.xyz", options=ReadOptions(format="csv"))) == 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_corrupt_parquet_is_a_data_error(tmp_path, damage):
    path = tmp_path / "d.parquet"
    rng = np.random.default_rng(0)
    pq.write_table(pa.table({"user": rng.integers(0, 99, 5000), "item": rng.integers(0, 99, 5000)}), path)
    raw = bytearray(path.read_bytes())
    if damage == "truncate":
        raw = raw[: len(raw) // 2]
    elif damage == "flip":
        raw[4:60] = bytes(56)
    path.write_bytes({"empty": b"", "text": b"user,item\n1,2\n"}.get(damage, bytes(raw)))
    with pytest.raises(DataError, match=r"d\.parquet: not a readable Parquet file"):
        read_interactions(path)


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_parquet_never_crashes(at, value, cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "d.parquet"
    pq.write_table(pa.table({"user": [1, 2, 3], "item": ["a", "b", "c"]}), path)
    raw = bytearray(path.read_bytes())
    at %= len(raw)
    raw = raw[:at] if cut else raw[:at] + bytes([value]) + raw[at + 1 :]
    path.write_bytes(bytes(raw))
    message = "d.parquet"
    try:
        read_interactions(path)
    except DataError as error:
        message = str(error)
    assert "d.parquet" in message


def test_parquet_without_rows(tmp_path):
    pq.write_table(
        pa.table({"user": pa.array([], pa.int32()), "item": pa.array([], pa.int32())}), tmp_path / "d.parquet"
    )
    with pytest.raises(DataError, match="no rows"):
        read_interactions(tmp_path / "d.parquet")


def test_sparse_matrix_file(tmp_path):
    matrix = sparse.csr_array((np.array([1, 1, 1]), (np.array([0, 2, 2]), np.array([4, 0, 3]))), shape=(5, 6))
    sparse.save_npz(tmp_path / "m.npz", matrix)
    log = read_interactions(tmp_path / "m.npz")
    assert sorted(zip(log.user.tolist(), log.item.tolist(), strict=True)) == [(0, 4), (2, 0), (2, 3)]
    assert (log.shape, log.rating) == ((5, 6), None)
    sparse.save_npz(tmp_path / "r.npz", sparse.coo_array((np.array([2.5]), (np.array([1]), np.array([1])))))
    assert read_interactions(tmp_path / "r.npz").rating.tolist() == [2.5]


def test_bad_npz_files(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match=r"m\.npz: not a readable scipy"):
        read_interactions(path)
    np.savez(path, a=np.arange(3))
    with pytest.raises(DataError, match=r"m\.npz: not a readable scipy"):
        read_interactions(path)
    sparse.save_npz(path, sparse.csr_array((2, 2)))
    with pytest.raises(DataError, match="no rows"):
        read_interactions(path)
    zero = sparse.csr_array((np.array([0.0, 1.0]), (np.array([0, 1]), np.array([0, 1]))))
    sparse.save_npz(path, zero)
    with pytest.raises(DataError, match="1 stored zero"):
        read_interactions(path)
    bad = {
        "format": b"csr",
        "shape": (2, 2),
        "data": np.ones(1),
        "indices": np.array([-1]),
        "indptr": np.array([0, 1, 1]),
    }
    np.savez(path, **bad)
    with pytest.raises(DataError, match=r"m\.npz"):
        read_interactions(path)


class Bomb:
    exploded = False

    def __reduce__(self):
        return (_explode, ())


def _explode():
    Bomb.exploded = True
    return np.zeros(1)


def test_pickled_npz_is_refused_and_does_not_run(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(
        path,
        format=b"csr",
        shape=(1, 1),
        indices=np.zeros(1, int),
        indptr=np.array([0, 1]),
        data=np.array([Bomb()], dtype=object),
    )
    with pytest.raises(DataError, match="pickled objects, which are refused"):
        read_interactions(path)
    (tmp_path / "q.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"q\.npz"):
        read_interactions(tmp_path / "q.npz")
    assert not Bomb.exploded


def test_text_file_is_adjacency_or_table(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("0 1 2 3\n1 2\n")
    assert len(read_interactions(path)) == 4
    path.write_text("1\t10\t5\n2\t20\t3\n")
    assert read_interactions(path).rating.tolist() == [5, 3]
    path.write_text("1 10 5\n2 20 3\n")
    with pytest.raises(DataError, match="every line holds 3 integers"):
        read_interactions(path)
    assert len(read_interactions(path, options=ReadOptions(format="adjacency"))) == 4
    assert len(read_interactions(path, options=ReadOptions(format="csv"))) == 2


def test_folder_of_parts(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 3\n")
    (tmp_path / "test.txt").write_text("0 3\n1\n")
    (tmp_path / "s_pre_adj_mat.npz").write_bytes(b"ignored")
    log = read_interactions(tmp_path, options=ReadOptions(split="split"))
    rows = set(zip(log.user.tolist(), log.item.tolist(), log.split.values.tolist(), strict=True))
    assert rows == {(0, 1, "train"), (0, 2, "train"), (1, 3, "train"), (0, 3, "test")}
    (tmp_path / "train.txt").unlink()
    with pytest.raises(DataError, match=r"no train\.\* file.*test\.txt"):
        read_interactions(tmp_path)


def test_folder_with_text_and_integer_ids(tmp_path):
    (tmp_path / "train.csv").write_text("user,item\n1,a\n2,b\n")
    (tmp_path / "valid.csv").write_text("user,item\nx,a\n")
    log = read_interactions(tmp_path)
    assert log.user.tolist() == ["1", "2", "x"]
    assert log.split.values.tolist() == ["train", "train", "valid"]
    assert log.columns == {"user": "user", "item": "item"}


def test_a_folder_names_the_columns_that_every_file_has(tmp_path):
    (tmp_path / "train.csv").write_text("user,item,time\n1,2,10\n")
    (tmp_path / "test.csv").write_text("user,item,when\n1,3,20\n")
    log = read_interactions(tmp_path)
    assert (log.time, log.columns) == (None, {"user": "user", "item": "item"})


def test_what_python_would_set_is_named_for_the_command_line_too(tmp_path):
    (tmp_path / "d.xyz").write_text("x")
    with pytest.raises(DataError, match=r"Name it: --set format=\.\.\. .*ReadOptions\(format="):
        read_interactions(tmp_path / "d.xyz")
    (tmp_path / "d.csv").write_text("useritem\n")
    with pytest.raises(DataError, match=r"name it: --set delimiter=\.\.\. .*data\.delimiter"):
        read_interactions(tmp_path / "d.csv")


@pytest.mark.parametrize("make", [pa.table, pl.DataFrame, pd.DataFrame])
def test_wide_unsigned_ids_say_what_to_do(make, tmp_path):
    table = make({"user": np.array([1, 2**63], dtype=np.uint64), "item": [1, 2]})
    with pytest.raises(
        DataError, match=r"column 'user', row 2: id 9223372036854775808 is past.*cast the column to text"
    ):
        read_interactions(table)


def test_a_frame_with_one_name_twice_is_refused():
    table = pd.DataFrame([[1, 2, 3]], columns=["user", "item", "item"])
    with pytest.raises(DataError, match="pandas DataFrame: 2 columns could be the item"):
        read_interactions(table)


def test_a_frame_may_name_its_columns_by_numbers():
    log = read_interactions(pd.DataFrame([[1, 2], [3, 4]]), options=ReadOptions(user="0", item="1"))
    assert (log.user.tolist(), log.item.tolist()) == ([1, 3], [2, 4])
