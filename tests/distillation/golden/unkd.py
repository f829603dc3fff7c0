"""Golden numbers of UnKD: loops in float64 from the formula. Run: python unkd.py > unkd.json."""

import json
import sys
from math import exp, log

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def groups_of(counts, groups):
    """The filling of groups as the authors' loop does it."""
    total, done, current, held = sum(counts), [], [], 0
    for item in sorted(range(len(counts)), key=lambda i: (-counts[i], i)):
        current, held = [*current, item], held + counts[item]
        if held > total / groups:
            if len(current) > 1:
                done.append(current[:-1])
                current, held = [item], counts[item]
                if held <= total / groups:
                    continue
            done.append(current)
            current, held = [], 0
    if current:
        if held > total / groups / 2 or not done:
            done.append(current)
        else:
            done[-1] += current
    return [sorted(g) for g in done]


users, items = 0.9 * sines(4, 3, 0.7, 0.2), 1.1 * sines(7, 3, 1.3, 0.5)
batch = [2, 0, 2, 3]
better = [[1, 4, 0], [0, 2, 1], [5, 3, -1], [3, 6, 2]]
worse = [[2, 5, 3], [3, 4, 5], [6, 0, -1], [1, 0, 5]]
weight = 0.6
loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
for u in batch:
    pairs = [(a, b) for a, b in zip(better[u], worse[u], strict=True) if a >= 0]
    for a, b in pairs:
        gap = float(users[u] @ items[a] - users[u] @ items[b])
        loss += weight * log(1 + exp(-gap)) / len(pairs)
        slope = -weight / (1 + exp(gap)) / len(pairs)
        d_users[u] += slope * (items[a] - items[b])
        d_items[a] += slope * users[u]
        d_items[b] -= slope * users[u]

popularity = [
    ([5, 1, 9, 3, 2, 7, 1, 0, 4, 2], 4),
    ([100, 1, 1, 1, 1, 1, 1], 3),
    ([4, 4, 4, 4], 2),
    ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 3),
    ([0, 0, 0], 2),
    ([50, 40, 30, 5, 4, 3, 2, 1, 1], 4),
    ([7], 5),
]
sys.stdout.write(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "weight": weight,
            "better": better, "worse": worse, "loss": loss, "d_users": d_users.tolist(), "d_items": d_items.tolist(),
            "popularity": [{"counts": c, "groups": g, "filled": groups_of(c, g)} for c, g in popularity],
        }
    )
)  # fmt: skip
