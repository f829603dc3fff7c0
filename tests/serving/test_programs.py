from __future__ import annotations

import json

import pytest
import torch

from fastkd.core.errors import CheckpointError
from fastkd.serving import export_student, load_export, load_program
from tests.serving.student_cases import ITEMS, PAIRS, TRAIN, USERS, VECTORS, model_of, ranked, request

ALL = list(range(TRAIN.num_users))


def exported(folder, name, parts):
    return export_student(model_of(name), folder, user_ids=USERS, item_ids=ITEMS, seen=TRAIN, parts=parts)


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A folder with tower and vectors for each kind of model."""
    root = tmp_path_factory.mktemp("towers")
    return {name: exported(root / name, name, ("tower", "vectors")) for name in VECTORS}


@pytest.mark.parametrize("name", VECTORS)
def test_the_user_tower_ranks_as_the_student(towers, name):
    model, tower, items = model_of(name), load_program(towers[name]), load_export(towers[name]).tables.items
    wanted = model.frozen_tables()
    with torch.no_grad():
        vectors = tower(*request(name, ALL))
    torch.testing.assert_close(vectors, wanted.users, rtol=1e-5, atol=1e-6)
    assert torch.equal(ranked(vectors @ items.T), ranked(wanted.users @ wanted.items.T))
    assert torch.equal(ranked(vectors @ items.T), wanted.topk(torch.tensor(ALL), 7).ids)
    assert model.training


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("users", [[4], [0, 22], [3] * 40, []])
def test_a_batch_may_have_any_size(towers, name, users):
    tower = load_program(towers[name])
    asked = request(name, users) if users else tuple(x[:0] for x in request(name, [1]))
    torch.testing.assert_close(tower(*asked), model_of(name).frozen_tables().users[users], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cdae", "sasrec", "simplex"])
def test_padding_may_stand_anywhere(towers, name):
    tower = load_program(towers[name])
    found = tower(*request(name, ALL, shift=True))
    torch.testing.assert_close(found, tower(*request(name, ALL)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cdae", "simplex"])
def test_somebody_new_has_no_vector_of_his_own(towers, name):
    model, tower, asked = model_of(name), load_program(towers[name]), request(name, [5])
    with torch.no_grad():
        model.user_embedding[5] = 0
    found = tower(torch.tensor([-1]), asked[1])
    torch.testing.assert_close(found, model.frozen_tables().users[5:6], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_the_pair_scorer_ranks_as_the_student(tmp_path, name):
    scorer = load_program(exported(tmp_path, name, None), "scorer")
    wanted = model_of(name).frozen_tables()
    for users, count in ((ALL, 37), ([4], 1), ([2, 2, 9], 5)):
        candidates = torch.arange(count).expand(len(users), -1)
        found = scorer(torch.tensor(users), candidates)
        torch.testing.assert_close(found, wanted.scores(torch.tensor(users), candidates), rtol=1e-5, atol=1e-6)
        if count == 37:
            assert torch.equal(ranked(found), wanted.topk(torch.tensor(users), 7).ids)


def test_the_manifest_says_what_a_program_takes(towers):
    files = {n: json.loads((towers[n] / "manifest.json").read_text())["files"]["tower"] for n in VECTORS}
    shapes = {name: [(i["name"], i["shape"]) for i in entry["inputs"]] for name, entry in files.items()}
    assert shapes["bpr_mf"] == shapes["lightgcn"] == [("users", ["batch"])]
    assert shapes["sasrec"] == [("history", ["batch", 9])]
    assert shapes["cdae"] == shapes["simplex"] == [("users", ["batch"]), ("history", ["batch", "length"])]
    assert "oldest first" in files["sasrec"]["inputs"][0]["holds"]


def test_damage_is_found_and_named(tmp_path):
    folder = exported(tmp_path, "bpr_mf", ("tower",))
    (path,) = folder.glob("tower-*.pt2")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(CheckpointError, match=rf"{path.name} is corrupt: blake2b"):
        load_program(folder)
    path.write_bytes(b"no zip" + content[6:])
    with pytest.raises(CheckpointError, match=rf"{path.name} is no program that torch .* can read"):
        load_program(folder, verify=False)
    path.write_bytes(content[:100])
    with pytest.raises(CheckpointError, match=rf"{path.name} holds 100 bytes"):
        load_program(folder, verify=False)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"cannot read .*{path.name}"):
        load_program(folder)
    with pytest.raises(CheckpointError, match=r"holds no scorer; it holds item_ids, .*, tower, user_ids, weights"):
        load_program(folder, "scorer")


@pytest.mark.parametrize(
    ("name", "absent", "says"),
    [
        ("neumf", "tower", "A model that scores pairs cannot have it; possible parts: weights, scorer"),
        (
            "bpr_mf",
            "scorer",
            "A model that ranks by an inner product cannot have it; possible parts: weights, vectors",
        ),
        ("neumf", "scorer", "--parts weights,scorer` it does"),
        ("bpr_mf", "tower", "--parts weights,tower` it does"),
    ],
)
def test_advice_for_an_absent_part_is_what_the_model_can_have(tmp_path, name, absent, says):
    export_student(model_of(name), tmp_path, user_ids=USERS, item_ids=ITEMS, parts=("weights",))
    with pytest.raises(CheckpointError, match=f"holds no {absent}; it holds .*{says}"):
        load_program(tmp_path, absent)
