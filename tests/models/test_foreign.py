"""Exports of other programs: ids of their own, missing vectors, and what users are made of."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from fastkd import Interactions
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.data.dataset import Dataset, IdMap
from fastkd.data.sequences import UserSequences
from fastkd.models import ForeignConfig, ListsConfig, ListTeacher, VectorsConfig, foreign_teacher, load_foreign

NAMES = ["b7", "a1", "c3", "d4", "e5"]
NUMBERS = [40, 10, 30, 0, 20]
ORDER = [[2, 0], [1, 3, 0], [4], [0, 1, 2, 3]]
VECTORS = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 0], [0, -1, 1]])


def data_of(originals=NAMES, *, ordered=True):
    users, items = np.repeat(np.arange(4), [len(o) for o in ORDER]), np.concatenate(ORDER)
    train = Interactions.from_pairs(users, items, num_users=4, num_items=5)
    empty = Interactions.empty(4, 5)
    sequences = UserSequences(train.indptr, items) if ordered else None
    names = IdMap(np.array(["u3", "u1", "u0", "u2"]))
    return Dataset(train, empty, empty, names, IdMap(np.array(originals)), sequences=sequences)


def shuffled(path, rows=(3, 1, 4, 0, 2)):
    """The vectors in another order, with one of an item that the data lacks; returns {id: row}."""
    table = torch.cat([torch.full((1, 3), 9.0), VECTORS[list(rows)]])
    np.save(path, table.numpy())
    return {"zz": 0, **{NAMES[item]: row + 1 for row, item in enumerate(rows)}}


def items_of(tmp_path, **options):
    teacher = foreign_teacher(ForeignConfig(items=VectorsConfig(**options)), data_of(), folder=tmp_path)
    return teacher.tables().items


@pytest.mark.parametrize("form", ["map.json", "list.json", "item2index.tsv", "ids.txt", "ids.npy"])
def test_every_form_of_ids_gives_the_datas_order(tmp_path, form):
    rows = shuffled(tmp_path / "items.npy")
    names = sorted(rows, key=rows.get)
    if form == "map.json":
        (tmp_path / form).write_text(json.dumps(rows))
    elif form == "list.json":
        (tmp_path / form).write_text(json.dumps(names))
    elif form == "item2index.tsv":
        (tmp_path / form).write_text("".join(f"{name}\t{row}\n" for name, row in rows.items()))
    elif form == "ids.txt":
        (tmp_path / form).write_text("\n".join(names) + "\n")
    else:
        np.save(tmp_path / form, np.array(names))
    assert torch.equal(items_of(tmp_path, vectors="items.npy", ids=form), VECTORS)


def test_numbers_as_ids(tmp_path):
    """A raw matrix whose row is the item's number; a file that names its rows; JSON, whose keys are text."""
    data, table = data_of(NUMBERS), torch.full((41, 3), torch.nan)
    table[NUMBERS] = VECTORS
    table.numpy().astype(np.float32).tofile(tmp_path / "data.feat1CLS")
    save_file({"vectors": VECTORS.half(), "ids": torch.tensor(NUMBERS)}, tmp_path / "v.safetensors")
    (tmp_path / "smap.json").write_text(json.dumps({str(n): at for at, n in enumerate(NUMBERS)}))
    np.save(tmp_path / "plain.npy", VECTORS.numpy())
    for options in (
        {"vectors": "data.feat1CLS", "width": 3},
        {"vectors": "v.safetensors"},
        {"vectors": "plain.npy", "ids": "smap.json"},
    ):
        teacher = foreign_teacher(ForeignConfig(items=VectorsConfig(**options)), data, folder=tmp_path)
        assert torch.equal(teacher.tables().items, VECTORS)
    digits = data_of([str(n) for n in NUMBERS])
    teacher = foreign_teacher(
        ForeignConfig(items=VectorsConfig(vectors="data.feat1CLS", width=3)), digits, folder=tmp_path
    )
    assert torch.equal(teacher.tables().items, VECTORS)


def test_a_folder_says_what_it_holds_and_users_have_vectors_too(tmp_path):
    save_file({"item": VECTORS, "user": torch.arange(12.0).reshape(4, 3)}, tmp_path / "both.safetensors")
    (tmp_path / "items.json").write_text(json.dumps(NAMES))
    (tmp_path / "users.json").write_text(json.dumps(["u0", "u1", "u2", "u3"]))
    part = {"vectors": "both.safetensors"}
    values = {
        "items": {**part, "tensor": "item", "ids": "items.json"},
        "users": {**part, "tensor": "user", "ids": "users.json"},
    }
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(values))
    for source in (tmp_path, str(tmp_path / "teacher.yaml")):
        tables = load_foreign(source, data_of()).tables()
        assert tables.users[:, 0].tolist() == [9.0, 3.0, 0.0, 6.0]
        assert torch.equal(tables.items, VECTORS)
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump({**values, "encoder": "mean"}))
    with pytest.raises(ConfigError, match=r"teacher\.yaml\.encoder.*Did you mean 'encode'"):
        load_foreign(tmp_path, data_of())


def teacher_of(tmp_path, data=None, **options):
    np.save(tmp_path / "items.npy", VECTORS.numpy())
    (tmp_path / "ids.json").write_text(json.dumps(NAMES))
    config = ForeignConfig(items=VectorsConfig(vectors="items.npy", ids="ids.json"), **options)
    return foreign_teacher(config, data_of() if data is None else data, folder=tmp_path).tables()


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("centre", [False, True])
def test_users_are_the_mean_or_the_last_of_what_they_took(tmp_path, centre, cosine):
    items = VECTORS - VECTORS.mean(0) if centre else VECTORS
    unit = torch.nn.functional.normalize if cosine else lambda x: x
    items = unit(items)
    made = {
        "mean": ({}, [items[row].mean(0) for row in ORDER]),
        "last": ({"encode": "last"}, [items[row[-1]] for row in ORDER]),
        "last two": ({"max_length": 2}, [items[row[-2:]].mean(0) for row in ORDER]),
    }
    for options, wanted in made.values():
        tables = teacher_of(tmp_path, centre=centre, cosine=cosine, **options)
        torch.testing.assert_close(tables.items, items)
        torch.testing.assert_close(tables.users, unit(torch.stack(wanted)))


@pytest.mark.parametrize("options", [{"encode": "last"}, {"max_length": 3}])
def test_without_an_order_in_time_there_is_no_last(tmp_path, options):
    data = data_of(ordered=False)
    assert teacher_of(tmp_path, data).users.shape == (4, 3)
    with pytest.raises(TeacherError, match="reads the order of time, which this data has none of"):
        teacher_of(tmp_path, data, **options)


@pytest.mark.parametrize(("missing", "filled"), [("zero", [0.0, 0, 0]), ("mean", [1 / 4, 0, 1.0])])
def test_items_without_a_vector(tmp_path, missing, filled):
    np.save(tmp_path / "v.npy", VECTORS[[0, 2, 3, 4]].numpy() + np.array([[0, 0, 0]] * 4, np.float32))
    (tmp_path / "ids.json").write_text(json.dumps([NAMES[i] for i in (0, 2, 3, 4)]))
    with pytest.raises(
        TeacherError, match=r"v\.npy has no vector for 1 of 5 items, first: item 'a1'; add them, or set"
    ):
        items_of(tmp_path, vectors="v.npy", ids="ids.json")
    found = items_of(tmp_path, vectors="v.npy", ids="ids.json", missing=missing)
    wanted = VECTORS[[0, 2, 3, 4]].mean(0) if missing == "mean" else torch.zeros(3)
    torch.testing.assert_close(found[1], wanted)
    assert torch.equal(found[[0, 2, 3, 4]], VECTORS[[0, 2, 3, 4]])


def write(path, values):
    path.write_text(values if isinstance(values, str) else json.dumps(values))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({**dict.fromkeys(NAMES, 0), "a1": 5}, r"ids\.json: item 'a1' has row 5, outside the 5 rows of items\.npy"),
        (["b7", "a1", "b7", "c3", "d4"], r"item 'b7' has two rows, 0 and 2"),
        (["q1", "q2", "q3", "q4", "q5"], r"first: item 'b7'"),
        ({"b7": 1.5}, r"expected \{id: row\} with whole numbers"),
        ("{", r"ids\.json is damaged or of another format"),
    ],
)
def test_ids_that_do_not_fit(tmp_path, ids, message):
    np.save(tmp_path / "items.npy", VECTORS.numpy())
    write(tmp_path / "ids.json", ids)
    with pytest.raises(TeacherError, match=message):
        items_of(tmp_path, vectors="items.npy", ids="ids.json")


def test_ids_of_nobody_are_no_reason_to_fill_everything(tmp_path):
    np.save(tmp_path / "items.npy", VECTORS.numpy())
    write(tmp_path / "ids.json", ["q1", "q2", "q3", "q4", "q5"])
    with pytest.raises(TeacherError, match="no vector for any of the 5 items: are the ids those of the data"):
        items_of(tmp_path, vectors="items.npy", ids="ids.json", missing="zero")


def test_lines_that_are_no_ids(tmp_path):
    np.save(tmp_path / "items.npy", VECTORS.numpy())
    write(tmp_path / "ids.tsv", "b7\t0\na1\tone\n")
    with pytest.raises(TeacherError, match=r"ids\.tsv, line 2: expected id<tab>row, got 'a1\\tone'"):
        items_of(tmp_path, vectors="items.npy", ids="ids.tsv")


def test_vectors_that_do_not_fit(tmp_path):
    bad = VECTORS.clone()
    bad[1, 2] = torch.inf
    np.save(tmp_path / "bad.npy", bad.numpy())
    np.save(tmp_path / "flat.npy", np.ones(5, np.float32))
    np.save(tmp_path / "whole.npy", np.ones((5, 2), np.int64))
    (tmp_path / "odd.bin32").write_bytes(b"\0" * 50)
    (tmp_path / "model.pth").write_bytes(b"\x80")
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 9)
    save_file({"a": VECTORS, "b": bad}, tmp_path / "two.safetensors")
    save_file({"a": VECTORS, "ids": torch.arange(4)}, tmp_path / "few.safetensors")
    write(tmp_path / "ids.json", NAMES)
    for options, message in (
        ({"vectors": "bad.npy"}, r"bad\.npy: the vector of item 'a1' \(row 1\) holds inf; all values must be finite"),
        ({"vectors": "bad.npy", "width": 7}, r"vectors of width 3, but width=7 was given"),
        ({"vectors": "flat.npy"}, r"a tensor of shape \[5\]; a matrix"),
        ({"vectors": "whole.npy"}, r"dtype int64; floating"),
        ({"vectors": "odd.bin32"}, r"read as raw float32: give width"),
        ({"vectors": "odd.bin32", "width": 3}, r"has 50 bytes, no multiple of 12"),
        ({"vectors": "model.pth"}, r"model\.pth is a pickle, which may run any program"),
        ({"vectors": "broken.safetensors"}, r"broken\.safetensors is damaged"),
        ({"vectors": "two.safetensors"}, r"give tensor, the name of the one to read; it holds a, b"),
        ({"vectors": "two.safetensors", "tensor": "c"}, r"there is no tensor 'c'; it holds a, b"),
        ({"vectors": "absent.npy"}, r"absent\.npy does not exist"),
    ):
        with pytest.raises(TeacherError, match=message):
            items_of(tmp_path, ids="ids.json", **options)
    with pytest.raises(
        TeacherError, match=r"tensor ids must hold one integer for each of 5 rows, is torch\.int64 \[4\]"
    ):
        items_of(tmp_path, vectors="few.safetensors")
    with pytest.raises(TeacherError, match=r"bad\.npy says not which row is which item, .* first: 'b7'; give ids"):
        items_of(tmp_path, vectors="bad.npy")


def test_users_of_another_width_are_refused(tmp_path):
    np.save(tmp_path / "users.npy", np.ones((4, 2), np.float32))
    write(tmp_path / "users.json", ["u0", "u1", "u2", "u3"])
    with pytest.raises(TeacherError, match=r"users\.npy holds users 2 wide and .*items\.npy items 3 wide"):
        teacher_of(tmp_path, users=VectorsConfig(vectors="users.npy", ids="users.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encode": "first"}, r"encode='first' is not allowed\. One of: mean, last, FILE\.safetensors"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        (
            {"users": VectorsConfig(vectors="users.npy"), "encode": "last", "max_length": 3, "heads": 4},
            "users have vectors of their own: leave out encode, max_length, heads, or users",
        ),
        (
            {"users": VectorsConfig(vectors="users.npy"), "encode": "nosuch.safetensors"},
            "users have vectors of their own: leave out encode, or users",
        ),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        ForeignConfig(items=VectorsConfig(vectors="items.npy"), **options)
    with pytest.raises(ConfigError, match="missing='drop' is not allowed"):
        VectorsConfig(vectors="items.npy", missing="drop")
    with pytest.raises(ConfigError, match="width must be at least 1, got 0"):
        VectorsConfig(vectors="items.npy", width=0)
    for vectors in ("items.npy", "items.feat1CLS"):
        with pytest.raises(ConfigError, match=f"tensor='item' is for a .safetensors file: leave it out for {vectors}"):
            VectorsConfig(vectors=vectors, tensor="item")


def test_lists_are_a_teacher_under_the_ids_of_the_source(tmp_path):
    (tmp_path / "lists.csv").write_text("user,item,rank\nu0,a1,1\nu0,zz,2\nu0,b7,3\nu3,e5,1\n")
    lists = {"path": "lists.csv", "short": "pad", "unknown": "drop"}
    write(tmp_path / "teacher.yaml", yaml.safe_dump({"lists": lists}))
    teacher = load_foreign(tmp_path, data_of())
    assert isinstance(teacher, ListTeacher)
    assert teacher.lists(2, None).ids.tolist() == [[4, -1], [-1, -1], [1, 0], [-1, -1]]
    write(tmp_path / "teacher.yaml", yaml.safe_dump({"lists": {**lists, "short": "keep"}}))
    with pytest.raises(ConfigError, match=r"teacher\.yaml\.lists\.short: 'keep' is not allowed.*One of: refuse, pad"):
        load_foreign(tmp_path, data_of())


def test_a_teacher_is_of_lists_or_of_vectors():
    lists, items = ListsConfig(path="l.csv"), VectorsConfig(vectors="v.npy")
    with pytest.raises(ConfigError, match="lists have no vectors: leave out items, cosine, or lists"):
        ForeignConfig(lists=lists, items=items, cosine=True)
    with pytest.raises(ConfigError, match=r"a teacher needs items \(vectors\) or lists, got neither"):
        ForeignConfig()


def test_a_json_map_that_gives_an_id_two_rows_is_refused(tmp_path):
    rows = shuffled(tmp_path / "items.npy")
    name, row = next(iter(rows.items()))
    (tmp_path / "map.json").write_text(json.dumps(rows)[:-1] + f', "{name}": {(row + 1) % len(rows)}}}')
    with pytest.raises(TeacherError, match=rf"map\.json: item '{name}' has two rows, "):
        items_of(tmp_path, vectors="items.npy", ids="map.json")
