import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from fastkd.core import DataError, FastKDWarning
from fastkd.data import DataConfig, ReadOptions, load_dataset, read_interactions


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


HEAD = "user,item\n"
ROWS = HEAD + "1,2\n1,3\n2,2\n2,4\n"


def test_parts_that_another_split_discards_are_named(tmp_path):
    folder = write(tmp_path / "d", train__csv=ROWS, valid__csv=HEAD + "1,5\n", test__csv=HEAD + "1,4\n2,3\n")
    with pytest.warns(FastKDWarning, match=r"d holds the parts train, valid, test; split='random' .*split='column'"):
        load_dataset(DataConfig(path=folder))
    data = load_dataset(DataConfig(path=folder, split="column"))
    assert [data.items.originals[row].tolist() for row in data.test] == [[4], [3]]


def test_a_folder_of_one_part_is_split_without_a_remark(tmp_path):
    folder = write(tmp_path / "d", train__csv=ROWS)
    assert load_dataset(DataConfig(path=folder)).train.nnz == 2


def test_two_files_of_one_part_are_refused(tmp_path):
    folder = write(tmp_path / "a", train__csv=ROWS, **{"train__part2__csv": HEAD + "7,8\n"})
    with pytest.raises(DataError, match=r"2 files are the part train: train\.csv, train\.part2\.csv; keep one"):
        read_interactions(folder)
    folder = write(tmp_path / "b", train__csv=ROWS, valid__csv=HEAD + "1,4\n", val__csv=HEAD + "1,5\n")
    with pytest.raises(DataError, match=r"the part valid: val\.csv, valid\.csv"):
        read_interactions(folder)


def test_files_of_no_known_format_are_no_parts(tmp_path):
    folder = write(tmp_path / "d", train__csv=ROWS, train__csv__bak="junk", test__md="# junk")
    log = read_interactions(folder)
    assert (len(log), log.split.values.tolist()) == (4, ["train"] * 4)
    (folder / "train.csv").rename(folder / "train.dump")
    (folder / "train.csv.bak").unlink()
    with pytest.raises(DataError, match=r"no train\.\* file .*found: test\.md, train\.dump\. Known extensions: \.csv,"):
        read_interactions(folder)
    (folder / "test.md").unlink()
    assert len(read_interactions(folder, options=ReadOptions(format="csv"))) == 4


@pytest.mark.parametrize("held", ["test", "valid"])
def test_a_pair_in_two_parts_stays_in_the_earlier_and_is_reported(tmp_path, held):
    folder = write(tmp_path / "d", train__csv=ROWS, **{f"{held}__csv": HEAD + "1,3\n1,4\n2,2\n"})
    config = DataConfig(path=folder, split="column", valid_from_train=0)
    said = rf"d: 2 pair\(s\) are in train and {held}, first: user 1 and item 3\. .*duplicates='first'"
    with pytest.warns(FastKDWarning, match=said):
        data = load_dataset(config)
    assert [data.items.originals[row].tolist() for row in data.train] == [[2, 3], [2, 4]]
    assert [data.items.originals[row].tolist() for row in getattr(data, held)] == [[4], []]


def test_rows_of_a_folder_are_in_the_order_train_valid_test(tmp_path):
    folder = write(tmp_path / "d", train__csv=ROWS, val__csv=HEAD + "1,9\n", test__csv=HEAD + "1,4\n")
    assert read_interactions(folder).split.values.tolist() == ["train"] * 4 + ["valid", "test"]


def test_a_pair_repeated_within_a_part_is_no_news(tmp_path):
    folder = write(tmp_path / "d", train__csv=ROWS + "1,2\n", test__csv=HEAD + "1,4\n")
    assert load_dataset(DataConfig(path=folder, split="column", valid_from_train=0)).train.nnz == 4


def test_sparse_parts_keep_the_shape_they_state(tmp_path):
    sparse.save_npz(tmp_path / "train.npz", sparse.csr_array(np.eye(4, 6)))
    sparse.save_npz(tmp_path / "test.npz", sparse.csr_array(np.eye(4, 7, k=1)))
    data = load_dataset(DataConfig(path=tmp_path, keep_ids=True, split="column", valid_from_train=0))
    assert (data.num_users, data.num_items) == (4, 7)


def test_dates_of_any_unit_become_microseconds(tmp_path):
    days = np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]")
    for part, unit in (("train", "ns"), ("valid", "s"), ("test", "us")):
        times = pa.array(days.astype("datetime64[s]")).cast(pa.timestamp(unit))
        pq.write_table(pa.table({"user": [1, 1], "item": [1, 2], "time": times}), tmp_path / f"{part}.parquet")
    log = read_interactions(tmp_path)
    assert log.dated
    assert log.time.tolist() == days.astype("datetime64[us]").astype(int).tolist() * 3


def test_numbers_in_one_part_and_dates_in_another_are_refused(tmp_path):
    head = "user,item,time\n"
    folder = write(tmp_path / "d", train__csv=head + "1,2,1600000000\n", test__csv=head + "1,4,2020-01-01\n")
    with pytest.raises(DataError, match=r"train\.csv holds times as numbers, .*test\.csv as dates"):
        read_interactions(folder)
    (folder / "test.csv").write_text(head + "1,4,\n")
    assert np.isnan(read_interactions(folder).time).tolist() == [False, True]
