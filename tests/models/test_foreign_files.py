"""Files of ids that do not say of each row whose it is, ids that look like row numbers, and items without a vector."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fastkd.core.errors import TeacherError
from fastkd.models import ForeignConfig, VectorsConfig, foreign_teacher
from tests.models.test_foreign import NAMES, NUMBERS, VECTORS, data_of


def tables_of(tmp_path, originals=NAMES, vectors=VECTORS, *, centre=False, cosine=False, **options):
    np.save(tmp_path / "items.npy", np.asarray(vectors))
    config = ForeignConfig(items=VectorsConfig(vectors="items.npy", **options), centre=centre, cosine=cosine)
    return foreign_teacher(config, data_of(originals), folder=tmp_path).tables()


def write_ids(path, ids):
    if path.suffix == ".npy":
        np.save(path, np.array(ids))
    else:
        path.write_text(json.dumps(ids) if path.suffix == ".json" else "".join(f"{i}\n" for i in ids))


@pytest.mark.parametrize("form", ["ids.txt", "ids.json", "ids.npy"])
@pytest.mark.parametrize("missing", ["refuse", "zero"])
def test_ids_in_the_order_of_the_rows_are_as_many_as_these(tmp_path, form, missing):
    for ids in (NAMES[1:], [*NAMES, "zz"]):
        write_ids(tmp_path / form, ids)
        with pytest.raises(TeacherError, match=rf"{form} holds {len(ids)} ids for 5 rows; .* \{{id: row\}} in \.json"):
            tables_of(tmp_path, ids=form, missing=missing)
    write_ids(tmp_path / form, NAMES)
    assert torch.equal(tables_of(tmp_path, ids=form).items, VECTORS)


def test_an_array_of_ids_has_one_dimension(tmp_path):
    for ids in ([NAMES], [[name] for name in NAMES]):
        np.save(tmp_path / "ids.npy", np.array(ids))
        with pytest.raises(TeacherError, match=r"ids\.npy holds ids of shape \[\d, \d\]; an id for each row .*: \[5\]"):
            tables_of(tmp_path, ids="ids.npy")


@pytest.mark.parametrize("form", ["ids.tsv", "ids.json"])
def test_ids_that_name_their_rows_may_be_fewer(tmp_path, form):
    """Rows of items that the data lacks need no name."""
    rows = {name: row + 2 for row, name in enumerate(NAMES)}
    lines = "".join(f"{name}\t{row}\n" for name, row in rows.items())
    (tmp_path / form).write_text(json.dumps(rows) if form == "ids.json" else lines)
    assert torch.equal(tables_of(tmp_path, vectors=torch.cat([VECTORS[:2] + 7, VECTORS]), ids=form).items, VECTORS)


@pytest.mark.parametrize("row", ["²", "1" * 5000, "-1", "1_0", "", "1.0"])
def test_a_line_with_no_row_number_is_shown(tmp_path, row):
    (tmp_path / "ids.tsv").write_text(f"b7\t0\na1\t{row}\n", encoding="utf-8")
    with pytest.raises(TeacherError, match=rf"ids\.tsv, line 2: expected id<tab>row, got 'a1\\t{row}'"):
        tables_of(tmp_path, ids="ids.tsv")


@pytest.mark.parametrize("name", ["01", "+2", " 3", "1_0", "1.0", "٣", "-0", ""])
def test_only_text_that_is_a_row_number_is_one(tmp_path, name):
    originals = ["0", "1", name, "2", "3"]
    with pytest.raises(TeacherError, match=rf"items have names here, first: '{name.replace('+', '[+]')}'; give ids"):
        tables_of(tmp_path, originals)


@pytest.mark.parametrize("name", ["99999999999999999999", "9" * 5000, "5", "-1"])
def test_a_number_past_the_rows_has_no_vector(tmp_path, name):
    originals = ["0", "4", name, "2", "3"]
    with pytest.raises(TeacherError, match=rf"items\.npy has no vector for 1 of 5 items, first: item '{name}'"):
        tables_of(tmp_path, originals)
    wanted = VECTORS[[0, 4, 0, 2, 3]]
    wanted[2] = 0
    assert torch.equal(tables_of(tmp_path, originals, missing="zero").items, wanted)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("missing", ["zero", "mean"])
def test_the_centre_is_that_of_the_vectors_there_are(tmp_path, missing, cosine):
    vectors = VECTORS + torch.tensor([10.0, 0.1, -3.3])
    known = [0, 2, 3]
    (tmp_path / "ids.json").write_text(json.dumps({NAMES[i]: i for i in known}))
    items = tables_of(tmp_path, vectors=vectors, ids="ids.json", missing=missing, centre=True, cosine=cosine).items
    wanted = vectors[known] - vectors[known].mean(0)
    torch.testing.assert_close(items[known], torch.nn.functional.normalize(wanted) if cosine else wanted)
    assert items[[1, 4]].abs().max() == 0


def test_a_value_past_float32_is_named(tmp_path):
    vectors = VECTORS.double().numpy()
    vectors[3, 1] = 1e300
    with pytest.raises(TeacherError, match=r"item 3 \(row 3\) holds 1e\+300; all values must be finite in float32"):
        tables_of(tmp_path, [0, 1, 2, 3, 4], vectors)
    large = np.zeros((41, 3), np.longdouble)
    large[NUMBERS] = VECTORS.numpy()
    assert torch.equal(tables_of(tmp_path, NUMBERS, large).items, VECTORS)
