import pytest
import torch

from fastkd.core import Interactions
from fastkd.sampling import NegativeSampler
from fastkd.sampling.epochs import EpochProducer, Epochs


@pytest.mark.gpu
def test_memory_is_pinned_where_there_is_a_gpu():
    table = Interactions.from_pairs([0, 0, 1, 2, 2, 2, 4], [3, 5, 1, 0, 2, 4, 5], num_users=6, num_items=7)
    batch = next(iter(Epochs(EpochProducer(NegativeSampler(table, seed=3), 2), batch_size=3)))
    assert all(getattr(batch, name).is_pinned() for name in ("entries", "users", "positives", "negatives"))
    moved = batch.negatives.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(moved.cpu(), batch.negatives)
