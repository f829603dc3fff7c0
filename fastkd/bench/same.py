"""Whether a peer computed the same: checked before it is timed, and it is left out if it did not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastkd.bench.case import Inputs

CLOSE = {torch.float32: 1e-3, torch.float64: 1e-9, torch.bfloat16: 3e-2, torch.float16: 1e-2}


def close(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare sums of losses, or tensors of one shape: within the rounding of the inputs' dtype."""
    a, b = (torch.as_tensor(value).detach().double().cpu() for value in (ours, theirs))
    if a.shape != b.shape:
        a, b = a.sum(), b.sum()
    tolerance = max([CLOSE[t.dtype] for t in inputs.values() if isinstance(t, Tensor) and t.dtype in CLOSE] or [1e-3])
    apart = float((a - b).abs().max()) if a.numel() else 0.0
    scale = max(float(a.abs().max()), 1e-30) if a.numel() else 1.0
    return None if apart <= tolerance * scale else f"differs by {apart / scale:.2g} of the largest"


def same_ranking(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare ids Int64[B, K]: the same, or of scores that tie within the rounding of the tables' dtype."""
    mine, found = (torch.as_tensor(np.asarray(_ids(x))).long().cpu() for x in (ours, theirs))
    if mine.shape != found.shape:
        return f"returned {tuple(found.shape)} instead of {tuple(mine.shape)} ids"
    rows, places = (mine != found).nonzero().T
    if len(rows) == 0:
        return None
    users, items = inputs["users"].cpu(), inputs["items"].cpu()
    there = found[rows, places]
    if int(there.min()) < 0 or int(there.max()) >= len(items):
        return "returned ids outside the catalogue"
    users, other, own = (t.double() for t in (users[rows], items[there], items[mine[rows, places]]))
    apart = ((users * other).sum(1) - (users * own).sum(1)).abs()
    tolerance = 1e-5 if inputs["users"].dtype == torch.float32 else 2e-2
    scale = users.norm(dim=1) * items.float().norm(dim=1).max().double()
    return None if bool((apart <= tolerance * scale).all()) else "ranks other items"


def same_scores(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare ids Int64[B, K] by their ``scores``, bit for bit and in order; equal scores may change places."""
    mine, found = (torch.as_tensor(np.asarray(_ids(x))).long().cpu() for x in (ours, theirs))
    if mine.shape != found.shape:
        return f"returned {tuple(found.shape)} instead of {tuple(mine.shape)} ids"
    if found.numel() and (int(found.min()) < 0 or int(found.max()) >= inputs["scores"].shape[1]):
        return "returned ids outside the catalogue"
    scores, ordered = inputs["scores"].cpu(), found.sort(1).values
    if bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        return "returned an item twice"
    return None if torch.equal(scores.gather(1, mine), scores.gather(1, found)) else "ranks other items"


def _ids(found: Any) -> Any:
    part = getattr(found, "ids", found)
    return part.cpu() if isinstance(part, Tensor) else part


def same_ranks(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare ranks Int64[B, C]: peers rank rounded scores, so a rank may differ by a few in 100,000 items."""
    rows = min(len(ours), len(theirs))
    apart = int((ours[:rows].cpu() - theirs[:rows].cpu()).abs().max())
    allowed = 2 + len(inputs["items"]) // 100_000
    return None if apart <= allowed else f"ranks differ by {apart}"


def exactly(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare integers one by one."""
    return None if torch.equal(_tensor(ours), _tensor(theirs)) else "differs"


def _tensor(value: Any) -> Tensor:
    value = _ids(value)
    return value.cpu() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))


def kept_share(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Dropout of another random stream: kept values scaled alike, and as many kept to within six deviations."""
    x, rate, found = inputs["x"].detach().cpu(), inputs["rate"], _tensor(theirs).detach()
    kept = found != 0
    if not torch.allclose(found[kept], x[kept] / (1.0 - rate), rtol=CLOSE[x.dtype]):
        return "scales what it keeps otherwise"
    apart = abs(float(kept.double().mean()) - (1.0 - rate))
    return None if apart <= 6.0 * (rate * (1.0 - rate) / x.numel()) ** 0.5 else f"keeps {apart:.2g} more or fewer"


def standard_gumbel(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Gumbel noise of another random stream: as much of it, its mean and variance within six deviations."""
    mine, found = _tensor(ours), _tensor(theirs).double()
    if mine.shape != found.shape:
        return f"drew {list(found.shape)} instead of {list(mine.shape)}"
    # The fourth central moment of the law is 14.6.
    for value, truth, spread in ((found.mean(), 0.5772157, 1.645), (found.var(), 1.6449341, 14.6 - 2.71)):
        if abs(float(value) - truth) > 6.0 * (spread / found.numel()) ** 0.5:
            return f"has {float(value):.4g} where the law has {truth:.4g}"
    return None


def own_stream(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Draws of another random stream: the same number of them, all of the catalogue, none that was seen."""
    mine, found = _tensor(ours), _tensor(theirs)
    if mine.numel() != found.numel():
        return f"drew {found.numel()} instead of {mine.numel()}"
    last = inputs["limit"]
    if int(found.min()) < 0 or int(found.max()) >= last:
        return f"drew outside 0 .. {last - 1}"
    seen, users = inputs.get("seen"), inputs.get("user_ids")
    if seen is None or users is None:
        return None
    flat = found.reshape(len(users), -1)
    hit = seen.contains(np.repeat(np.asarray(users), flat.shape[1]), flat.reshape(-1).numpy())
    return "drew a positive" if hit.any() else None
