from __future__ import annotations

import json
import os
import stat

import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError, DataError
from fastkd.core.interactions import Interactions
from fastkd.data import IdMap
from fastkd.models import ModelConfig, build_model
from fastkd.serving import export_student, load_export, load_program
from fastkd.serving.student import chosen_parts
from tests.serving.student_cases import ITEMS, OPTIONS, ORDER, PAIRS, TRAIN, USERS, VECTORS, model_of


def exported(folder, name, **options):
    return export_student(model_of(name), folder, user_ids=USERS, item_ids=ITEMS, seen=TRAIN, **options)


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_rank_as_the_student_without_what_was_seen(tmp_path, name):
    export = load_export(exported(tmp_path, name, parts=("vectors",), metadata={"dim": 6}))
    users = torch.arange(TRAIN.num_users)
    found = export.tables.topk(users, 7, exclude=export.seen)
    wanted = model_of(name).frozen_tables().topk(users, 7, exclude=TRAIN)
    assert torch.equal(found.ids, wanted.ids)
    assert torch.equal(found.scores, wanted.scores)
    assert export.users.originals.tolist() == USERS.originals.tolist()
    assert export.items.originals.tolist() == ITEMS.originals.tolist()
    assert (export.metadata, export.weights) == ({"dim": 6}, None)


@pytest.mark.parametrize("name", VECTORS + PAIRS)
def test_the_weights_make_the_student_again(tmp_path, name):
    export = load_export(exported(tmp_path, name, parts=("weights",)))
    assert export.tables is None
    config = ModelConfig(name=name, dim=6, options=OPTIONS.get(name, {}))
    again = build_model(config, TRAIN, Seeds(77), sequences=ORDER)
    again.load_state_dict(dict(export.weights))
    users = torch.arange(TRAIN.num_users)
    wanted = model_of(name).frozen_tables().topk(users, 7, exclude=TRAIN)
    assert torch.equal(again.frozen_tables().topk(users, 7, exclude=export.seen).ids, wanted.ids)


def test_all_that_a_model_has_is_written_unless_parts_are_named(tmp_path):
    held = lambda folder: {p.name.split("-")[0] for p in folder.iterdir()} - {"manifest.json"}  # noqa: E731
    always = {"user_ids", "item_ids", "seen_indptr", "seen_indices"}
    assert held(exported(tmp_path / "a", "bpr_mf")) == always | {"tables", "weights", "tower"}
    assert held(exported(tmp_path / "b", "neumf")) == always | {"weights", "scorer"}
    # Over an older export, its other parts go.
    assert held(exported(tmp_path / "a", "bpr_mf", parts=("vectors",))) == always | {"tables"}


@pytest.mark.parametrize("parts", [("weights",), ("tower",), ("vectors",)])
def test_the_manifest_says_how_a_model_scores_whatever_parts_are_written(tmp_path, parts):
    folder = exported(tmp_path / "vectors", "bpr_mf", parts=parts)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["score"], manifest["dim"]) == ("inner product", 6)
    assert (load_export(folder).score, load_export(folder).dim) == ("inner product", 6)
    folder = exported(tmp_path / "pairs", "neumf", parts=("weights",))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["score"], "dim" in manifest) == ("pairs", False)
    assert (load_export(folder).score, load_export(folder).dim) == ("pairs", None)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_every_file_may_be_read_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        exported(tmp_path, "bpr_mf")
    finally:
        os.umask(before)
    modes = {path.name.split("-")[0]: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {"tables", "weights", "tower", "manifest.json"} <= set(modes)
    assert set(modes.values()) == {mode}


@pytest.mark.parametrize("part", ["vectors", "tower", "faiss"])
@pytest.mark.parametrize(("name", "kind"), [("neumf", "NeuMF"), ("deepfm", "DeepFM")])
def test_students_that_score_pairs_have_no_vectors_and_say_what_works(tmp_path, name, kind, part):
    says = f"{part} cannot be exported: {kind} scores pairs and has no user and item vectors. Possible: weights, scorer"
    with pytest.raises(ConfigError, match=says):
        exported(tmp_path / "x", name, parts=("weights", part))
    assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match=rf"{kind} scores pairs.*take pair_scorer\(\)"):
        model_of(name).user_tower()


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            ("scorer",),
            "scorer cannot be exported: BPRMF ranks by the inner product.*Possible: weights, vectors, tower, faiss",
        ),
        (("towr",), r"unknown part 'towr' of an export.*tower"),
        ((), "no parts to export; possible: weights"),
    ],
)
def test_parts_that_are_not_there_are_refused(tmp_path, parts, says):
    with pytest.raises(ConfigError, match=says):
        exported(tmp_path, "bpr_mf", parts=parts)


def test_a_factory_string_asks_for_the_index():
    assert chosen_parts(model_of("bpr_mf"), None, indexed=True) == ("weights", "vectors", "tower", "faiss")
    assert chosen_parts(model_of("bpr_mf"), ("faiss", "vectors"), indexed=True) == ("faiss", "vectors")
    with pytest.raises(ConfigError, match="no parts to export"):
        chosen_parts(model_of("bpr_mf"), (), indexed=True)


def test_ids_and_seen_items_have_to_fit_the_model_without_vectors_too(tmp_path):
    with pytest.raises(DataError, match="seen is"):
        export_student(
            model_of("neumf"),
            tmp_path,
            user_ids=USERS,
            item_ids=ITEMS,
            seen=Interactions.empty(3, 4),
            parts=("weights",),
        )
    with pytest.raises(DataError, match=r"id maps hold 23 users and 5 items, the model 23 and 37"):
        export_student(model_of("neumf"), tmp_path, user_ids=USERS, item_ids=IdMap.identity(5), parts=("weights",))


@pytest.mark.parametrize("fail_at", [1, 2, 3, 5])
def test_a_failure_leaves_the_older_export_whole(tmp_path, monkeypatch, fail_at):
    exported(tmp_path, "bpr_mf", parts=("vectors", "tower"))
    calls, real = [], os.fsync

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) >= fail_at:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        exported(tmp_path, "lightgcn", parts=("vectors", "tower"))
    monkeypatch.undo()
    users = torch.arange(TRAIN.num_users)
    wanted = model_of("bpr_mf").frozen_tables().users
    assert torch.equal(load_export(tmp_path).tables.users, wanted)
    assert torch.equal(load_program(tmp_path)(users), wanted)
    exported(tmp_path, "lightgcn", parts=("vectors", "tower"))
    assert torch.equal(load_program(tmp_path)(users), model_of("lightgcn").frozen_tables().users)
    assert len(list(tmp_path.iterdir())) == 7
