import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import TeacherError
from fastkd.models import (
    EmbeddingTeacher,
    ListTeacher,
    ModelConfig,
    ModelTeacher,
    StoredTeacher,
    TeacherGroup,
    TeacherTrajectory,
    build_model,
    pairs,
    rank_consensus,
    save_tables,
)
from tests.contracts.interactions import random_interactions


@pytest.fixture
def train():
    return random_interactions(13, 30, 5)


def live(train, seed=0):
    return ModelTeacher(build_model(ModelConfig(dim=4, init_std=0.5), train, Seeds(seed)))


def test_a_teacher_is_its_own_member_and_checkpoint(train):
    teacher = live(train)
    assert teacher.members == (teacher,)
    assert teacher.checkpoints == (teacher,)


def test_a_trajectory_is_its_finished_state(train):
    early, late = live(train, 1), live(train, 2)
    teacher = TeacherTrajectory([early, late])
    assert teacher.checkpoints == (early, late)
    assert teacher.members == (teacher,)
    assert torch.equal(teacher.lists(7, train).ids, late.lists(7, train).ids)
    assert teacher.tables() is late.tables()
    assert teacher.model is late.model
    assert teacher.fingerprint() not in (late.fingerprint(), TeacherTrajectory([late]).fingerprint())
    assert teacher.fingerprint() == TeacherTrajectory([live(train, 1), live(train, 2)]).fingerprint()


def test_a_group_ranks_by_consensus(train):
    members = [live(train, 1), TeacherTrajectory([live(train, 2), live(train, 3)])]
    teacher = TeacherGroup(members)
    assert teacher.members == tuple(members)
    wanted = rank_consensus([m.lists(30, train).ids for m in members], 6)
    found = teacher.lists(6, train)
    assert torch.equal(found.ids, wanted.ids)
    assert torch.equal(found.scores, wanted.scores)
    assert teacher.fingerprint() != TeacherGroup(members[::-1]).fingerprint()
    part = teacher.lists(6, train, users=range(4, 9))
    assert torch.equal(part.ids, found.ids[4:9])


def test_a_group_of_short_lists_says_how_many_items_it_reads():
    random = Seeds(3).torch("lists")
    ids = [torch.stack([torch.randperm(300, generator=random)[:50] for _ in range(6)]) for _ in range(2)]
    longer = torch.stack([torch.randperm(300, generator=random)[:100] for _ in range(6)])
    group = TeacherGroup([ListTeacher(longer, None, 300), ListTeacher(ids[0], None, 300)])
    with pytest.raises(TeacherError) as caught:
        group.lists(10, None)
    message = str(caught.value)
    assert message.startswith("teacher 1 of a group: 6 user(s) have fewer than 100 listed items outside the excluded")
    assert "user 0 with 50; to rank 10 items a group reads 100 of each teacher" in message
    assert message.endswith("export longer lists, or allow padding with short='pad' (a key of lists in teacher.yaml)")
    assert "ask for at most" not in message
    padded = TeacherGroup([ListTeacher(x, None, 300, short="pad") for x in ids])
    assert torch.equal(padded.lists(10, None).ids, rank_consensus(ids, 10).ids)


def test_a_group_has_no_vectors_and_no_model(train):
    group = TeacherGroup([live(train, 1), live(train, 2)])
    with pytest.raises(TeacherError, match=r"TeacherGroup of 2 teachers has ranked lists only.*one teacher alone"):
        group.tables()
    with pytest.raises(TeacherError, match="TeacherGroup of 2 teachers is no live model"):
        _ = group.model


def test_parts_that_do_not_fit_are_refused(train):
    small = live(random_interactions(13, 29, 5))
    with pytest.raises(TeacherError, match=r"checkpoint 1 of a trajectory covers 13 users x 29 items.*13 users x 30"):
        TeacherTrajectory([live(train), small])
    with pytest.raises(TeacherError, match="a group needs at least one teacher, got none"):
        TeacherGroup([])
    with pytest.raises(TeacherError, match="a group holds single teachers"):
        TeacherGroup([TeacherGroup([live(train), live(train, 1)])])


def test_stored_vectors_are_read_when_asked_for(train, tmp_path):
    teacher = live(train)
    save_tables(tmp_path / "t.safetensors", teacher.tables())
    stored = StoredTeacher(tmp_path / "t.safetensors", num_users=13, num_items=30)
    assert stored.fingerprint() == teacher.fingerprint()
    assert torch.equal(stored.lists(5, train).ids, teacher.lists(5, train).ids)
    assert not any(isinstance(v, torch.Tensor) for v in vars(stored).values())
    with pytest.raises(TeacherError, match="13 users x 30 items, but the data has 13 x 31"):
        StoredTeacher(tmp_path / "t.safetensors", num_users=13, num_items=31)


def test_a_stored_teacher_at_hand_is_read_once(train, tmp_path, monkeypatch):
    save_tables(tmp_path / "t.safetensors", live(train).tables())
    stored = StoredTeacher(tmp_path / "t.safetensors", num_users=13, num_items=30)
    whole = TeacherGroup([TeacherTrajectory([live(train, 1), stored]), live(train, 2)])
    wanted, reads = whole.lists(5, train), []
    monkeypatch.setattr(StoredTeacher, "tables", lambda self, read=StoredTeacher.tables: reads.append(1) or read(self))
    at_hand = whole.at_hand()
    for users in (range(4), range(4, 13)):
        found = at_hand.lists(5, train, users=users)
        assert torch.equal(found.ids, wanted.ids[users.start : users.stop])
    assert len(reads) == 1
    assert live(train).at_hand().lists(5, train).ids.tolist() == stored.lists(5, train).ids.tolist()


@pytest.mark.parametrize("source", ["vectors", "lists"])
def test_lists_of_some_users_among_some_items(train, source):
    teacher = live(train)
    if source == "lists":
        lists = teacher.lists(30, None)
        teacher = ListTeacher(lists.ids, lists.scores, 30)
    among = torch.tensor([0, 3, 4, 11, 12, 20, 29]).numpy()
    whole = teacher.lists(30, train).ids
    found = teacher.lists(5, train, users=range(2, 11), among=among)
    for row, user in enumerate(range(2, 11)):
        wanted = [i for i in whole[user].tolist() if i in among][:5]
        assert found.ids[row].tolist() == wanted + [-1] * (5 - len(wanted))
        assert (torch.isfinite(found.scores[row]) == (found.ids[row] >= 0)).all()
    assert len(teacher.lists(5, train, users=range(3, 3)).ids) == 0
    assert (teacher.lists(2, None, among=among[:0]).ids == -1).all()
    for users in (range(5, 14), range(0, 4, 2), range(-1, 3)):
        with pytest.raises(TeacherError, match=r"users must be a stretch of range\(13\)"):
            teacher.lists(5, train, users=users)
    for wrong in ([3, 1], [0, 30], [-1, 2], [2, 2]):
        with pytest.raises(TeacherError, match=r"among must be ascending item ids in \[0, 30\)"):
            teacher.lists(5, train, among=torch.tensor(wrong).numpy())


def test_short_lists_are_refused_for_the_users_asked_for(train):
    lists = EmbeddingTeacher(live(train).tables().users, live(train).tables().items).lists(8, None)
    ids, scores = lists.ids.clone(), lists.scores.clone()
    ids[6, 2:], scores[6, 2:] = -1, -torch.inf
    teacher = ListTeacher(ids, scores, 30)
    assert teacher.lists(8, None, users=range(0, 6)).ids.shape == (6, 8)
    with pytest.raises(TeacherError, match="user 6 with 2"):
        teacher.lists(8, None, users=range(5, 9))


def test_scores_of_chosen_items_are_the_finished_states_and_a_groups_are_refused(train):
    first, second = live(train), live(train, seed=2)
    users, ids = torch.tensor([3, 0]), torch.tensor([[1, 5, -1], [29, 0, 2]])
    tables = second.tables()
    wanted = (tables.users[users].unsqueeze(1) * tables.items[ids.clamp(min=0)]).sum(2).masked_fill(ids < 0, -torch.inf)
    torch.testing.assert_close(TeacherTrajectory([first, second]).scores(users, ids), wanted)
    with pytest.raises(TeacherError, match="a TeacherGroup of 2 teachers has no scores of its own; ask its members"):
        TeacherGroup([first, second]).scores(users, ids)


def test_pairs_are_scored_in_blocks(train, monkeypatch):
    teacher = ModelTeacher(build_model(ModelConfig(name="deepfm", dim=4, options={"hidden": [8]}), train, Seeds(1)))
    users, ids = torch.arange(13), torch.arange(26).reshape(13, 2)
    whole = teacher.scores(users, ids)
    monkeypatch.setattr(pairs, "CELLS", 60)
    assert teacher.tables().rows_at_once(2) < 4
    torch.testing.assert_close(teacher.scores(users, ids), whole)
