"""Exclusions given as interactions, in compiled and exported programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastkd import ops
from fastkd.core import Interactions
from tests.contracts.closeness import wave

USERS, ITEMS = wave(3, 4, 0.3).float(), wave(9, 4, 0.8).float()
IDS, ROWS = torch.tensor([[0], [3], [5]]), torch.tensor([4, 0, 2])
CALLS = {
    "rank_topk": lambda seen: ops.rank_topk(USERS, ITEMS, 4, exclude=seen).ids,
    "rank_of": lambda seen: ops.rank_of(USERS, ITEMS, IDS, exclude=seen),
    "catalogue_logsumexp": lambda seen: ops.catalogue_logsumexp(USERS, ITEMS, seen),
    "rows": lambda seen: ops.catalogue_logsumexp(USERS, ITEMS, (seen, ROWS)),
    "catalogue_softmax": lambda seen: ops.catalogue_softmax(USERS, ITEMS, IDS, torch.ones(3, 1), exclude=seen),
    "catalogue_divergence": lambda seen: ops.catalogue_divergence((USERS, ITEMS), (2 * USERS, ITEMS), exclude=seen),
    "sample_softmax": lambda seen: ops.sample_softmax(USERS, ITEMS, 2, temperature=1.0, exclude=seen, seed=1, epoch=0),
}


def interactions(item, users=3):
    """Return two items each, none of them a target."""
    return Interactions.from_pairs(np.repeat(np.arange(users), 2), [1, item] * users, num_users=users, num_items=9)


@pytest.mark.parametrize("name", CALLS)
def test_a_whole_graph_follows_the_interactions(name):
    torch.compiler.reset()
    call, users = CALLS[name], 5 if name == "rows" else 3
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for item in (2, 4, 8):
        seen = interactions(item, users)
        assert torch.equal(compiled(seen), call(interactions(item, users)))
        assert not [key for key in seen._cache if key.startswith("torch")]  # nothing of a trace is kept
    seen.to_torch()
    assert torch.equal(compiled(seen), call(seen))
    other = interactions(6, users)
    other.to_torch()
    assert torch.equal(compiled(other), call(other))


def test_any_number_of_them_needs_no_program_each():
    torch.compiler.reset()
    compiled = torch.compile(CALLS["catalogue_logsumexp"], fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(recompile_limit=2):
        for item in (2, 3, 4, 5, 6, 7, 8):
            assert torch.equal(compiled(interactions(item)), CALLS["catalogue_logsumexp"](interactions(item)))


class Ranking(torch.nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, users, items):
        return ops.rank_topk(users, items, 4, exclude=self.seen).ids


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_holds_them(strict):
    seen = interactions(4)
    if strict:
        with pytest.raises(torch._dynamo.exc.Unsupported, match=r"call to_torch\('cpu'\) before"):
            torch.export.export(Ranking(seen), (USERS, ITEMS), strict=True)
        seen.to_torch(USERS.device)
    program = torch.export.export(Ranking(seen), (USERS, ITEMS), strict=strict)
    assert torch.equal(program.module()(USERS, ITEMS), CALLS["rank_topk"](interactions(4)))
    assert torch.equal(CALLS["rank_topk"](seen), CALLS["rank_topk"](interactions(4)))


def test_fakes_are_not_kept():
    seen = interactions(4)
    with FakeTensorMode() as mode:
        assert ops.rank_topk(mode.from_tensor(USERS), mode.from_tensor(ITEMS), 4, exclude=seen).ids.shape == (3, 4)
    assert torch.equal(CALLS["rank_topk"](seen), CALLS["rank_topk"](interactions(4)))
