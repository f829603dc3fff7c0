import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import DataError
from fastkd.data import text
from fastkd.data.log import ReadOptions
from fastkd.data.text import looks_like_adjacency, read_adjacency, read_delimited


@pytest.fixture
def write(tmp_path):
    def writer(content, name="f.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return writer


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::", " "])
def test_delimiters_are_sniffed(write, delimiter):
    lines = [delimiter.join(row) for row in (("1", "10", "4.5", "100"), ("2", "20", "3", "50"))]
    log = read_delimited(write("\n".join(lines) + "\n"), ReadOptions())
    assert (log.user.tolist(), log.item.tolist()) == ([1, 2], [10, 20])
    assert (log.rating.tolist(), log.time.tolist()) == ([4.5, 3.0], [100, 50])


def test_header_names_quotes_bom_and_windows_line_ends(write):
    content = '\ufeff"user_id","title","item_id"\r\n"a,b","x","1"\r\n"c","y","2"\r\n'
    log = read_delimited(write(content), ReadOptions())
    assert (log.user.tolist(), log.item.tolist()) == (["a,b", "c"], [1, 2])


def test_first_line_with_a_number_is_no_header(write):
    log = read_delimited(write("A1,B2,5.0,1230\nA3,B2,1.0,1231\n"), ReadOptions())
    assert (log.user.tolist(), log.item.tolist(), log.rating.tolist()) == (["A1", "A3"], ["B2", "B2"], [5.0, 1.0])


def test_named_columns_of_a_headerless_file(write):
    log = read_delimited(write("x,u,1\ny,v,2\n"), ReadOptions(columns=("item", "user", "time")))
    assert (log.user.tolist(), log.item.tolist(), log.time.tolist()) == (["u", "v"], ["x", "y"], [1, 2])


def test_inter_header_with_types(write):
    log = read_delimited(
        write("user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\t7\t3\t1.5e3\n", "d.inter"),
        ReadOptions(),
        inter=True,
    )
    assert (log.user.tolist(), log.item.tolist(), log.rating.tolist(), log.time.tolist()) == (
        ["u1"],
        [7],
        [3.0],
        [1500.0],
    )


def test_inter_problems_are_named(write):
    with pytest.raises(DataError, match="'item_id' has no type"):
        read_delimited(write("user_id:token\titem_id\n1\t2\n"), ReadOptions(), inter=True)
    with pytest.raises(DataError, match="'item_id:token_seq' holds sequences"):
        read_delimited(write("user_id:token\titem_id:token_seq\n1\t2\n"), ReadOptions(), inter=True)
    with pytest.raises(DataError, match=r"no user column.*'uu', 'item_id'"):
        read_delimited(write("uu:token\titem_id:token\n1\t2\n"), ReadOptions(), inter=True)


def test_double_colon_split_between_blocks(write, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 5)
    rows = [(i, i * 7, i % 5 + 1, 1000 + i) for i in range(1, 40)]
    log = read_delimited(write("".join("::".join(map(str, r)) + "\n" for r in rows), "r.dat"), ReadOptions())
    assert list(zip(log.user, log.item, log.rating, log.time, strict=True)) == rows


def test_gzip_and_truncated_gzip(write):
    content = gzip.compress(b"user,item\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(5000)))
    assert len(read_delimited(write(content, "f.csv.gz"), ReadOptions())) == 5000
    with pytest.raises(DataError, match=r"t\.csv\.gz"):
        read_delimited(write(content[: len(content) // 2], "t.csv.gz"), ReadOptions())
    with pytest.raises(DataError, match=r"n\.csv\.gz"):
        read_delimited(write(b"user,item\n1,2\n", "n.csv.gz"), ReadOptions())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("user,item\n", "no rows"),
        ("useritem\n1\n", "no delimiter found.*'useritem'"),
        ("user,item\n1,2\n3\n", r"line 3: 1 columns where the first line has 2.*'3'"),
        ("user,item\n1,2\n3,4,5\n", r"line 3: 3 columns where the first line has 2"),
        ("user,item\n1,\n", "column 'item', row 1: null id"),
        ("user,item,rating\n1,2,3\n1,3,bad\n", "column 'rating', row 2: expected a number, got 'bad'"),
    ],
)
def test_bad_files_are_named(write, content, message):
    with pytest.raises(DataError, match=f"f.csv.*{message}"):
        read_delimited(write(content), ReadOptions())


def test_not_utf8_is_refused(write):
    with pytest.raises(DataError, match="UTF"):
        read_delimited(write(b"user,item\n\xff\xfe,1\n"), ReadOptions())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["f.csv", "f.inter", "f.csv.gz"])
def test_utf16_is_refused_with_what_is_expected(write, encoding, name):
    content = "\ufeffuser,item\n1,2\n".encode(encoding)
    path = write(gzip.compress(content) if name.endswith("gz") else content, name)
    with pytest.raises(DataError, match=r"f\..*: the text is UTF-16, by its first bytes (ff fe|fe ff); expected UTF-8"):
        read_delimited(path, ReadOptions(), inter=name.endswith("inter"))
    with pytest.raises(DataError, match="UTF-16"):
        looks_like_adjacency(path)


def test_a_header_with_one_name_twice_is_refused(write):
    with pytest.raises(DataError, match=r"f\.csv: 2 columns could be the item: 'item', 'item'; rename"):
        read_delimited(write("user,item,item\n1,2,3\n"), ReadOptions())
    log = read_delimited(write("user,item,note,note\n1,2,x,y\n"), ReadOptions())
    assert (log.user.tolist(), log.item.tolist()) == ([1], [2])


def test_adjacency_lists(write):
    log = read_adjacency(write("0 5 3\n2\n1 7\n\n4 1 2 3", "train.txt"))
    assert list(zip(log.user.tolist(), log.item.tolist(), strict=True)) == [
        (0, 5),
        (0, 3),
        (1, 7),
        (4, 1),
        (4, 2),
        (4, 3),
    ]


@settings(deadline=None, max_examples=40)
@given(
    lists=st.lists(st.lists(st.integers(0, 10**17), max_size=6), min_size=1, max_size=12),
    block=st.sampled_from([1, 3, 7, 64]),
)
def test_adjacency_any_lists_any_block(lists, block, tmp_path_factory):
    path = tmp_path_factory.mktemp("adjacency") / "a.txt"
    path.write_text("".join(" ".join(map(str, [u, *row])) + " \n" for u, row in enumerate(lists)))
    expected = [(u, i) for u, row in enumerate(lists) for i in row]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", block)
        if not expected:
            with pytest.raises(DataError, match="no rows"):
                read_adjacency(str(path))
            return
        log = read_adjacency(str(path))
    assert list(zip(log.user.tolist(), log.item.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1\n2 -3\n", "line 2: negative id '-3'"),
        ("0 1\n\n1 x9 2\n", "line 3: expected integers, got 'x9'"),
        ("0 1.5\n", r"line 1: expected integers, got"),
        (f"0 1\n1 {10**18}\n", f"line 2: id {10**18} is too large"),
        ("0\n1\n", "no rows"),
    ],
)
def test_bad_adjacency_is_named(write, content, message):
    with pytest.raises(DataError, match=message):
        read_adjacency(write(content, "a.txt"))


def test_line_numbers_continue_over_blocks(write, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 16)
    with pytest.raises(DataError, match="line 50: negative id '-1'"):
        read_adjacency(write("".join(f"{i} 1 2\n" for i in range(49)) + "49 -1\n", "a.txt"))


def test_reading_does_not_hold_the_file_twice_in_python_objects(write):
    import tracemalloc

    rng = np.random.default_rng(0)
    rows = rng.integers(0, 10**6, (200_000, 2))
    path = write("user,item\n" + "\n".join(f"{u},{i}" for u, i in rows), "big.csv")
    tracemalloc.start()
    log = read_delimited(path, ReadOptions())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (log.user == rows[:, 0]).all()
    assert peak < 3 * rows.nbytes  # numpy columns, their chunks, and no per-row objects


@pytest.mark.parametrize("before", ["\n", "\n\r\n", " \n\n"])
def test_empty_lines_before_the_header_are_skipped(write, before):
    log = read_delimited(write(before + "item,user\n10,1\n20,2\n"), ReadOptions())
    assert (log.user.tolist(), log.item.tolist()) == ([1, 2], [10, 20])
    log = read_delimited(write(before + "1,10\n2,20\n"), ReadOptions())
    assert (log.user.tolist(), log.item.tolist()) == ([1, 2], [10, 20])


def test_a_first_line_that_names_users_and_items_is_a_header_whatever_else_it_holds(write):
    path = write("item,User,2020\n3,1,7\n4,2,8\n")
    assert read_delimited(path, ReadOptions()).user.tolist() == [1, 2]
    path = write("song,listener,2020\n3,1,7\n")
    assert read_delimited(path, ReadOptions(user="listener", item="song")).item.tolist() == [3]
