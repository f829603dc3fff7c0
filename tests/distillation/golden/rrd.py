"""Golden numbers of RRD: loops in float64 from the formula. Run: python rrd.py > rrd.json."""

import json
from math import exp, log

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(8, 3, 1.3, 0.5)
batch, weight = [2, 0, 2], 0.4
ranked, unranked = [[2, 7, 1], [5, 0, 3], [6, 2, -1]], [[0, 3], [1, 6], [4, -1]]  # user 2 is short of both

loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
for u in sorted(set(batch)):
    best, rest = ([i for i in row[u] if i >= 0] for row in (ranked, unranked))
    for k in range(len(best)):
        below = {i: exp(float(users[u] @ items[i])) for i in best[k:] + rest}
        loss -= weight * (float(users[u] @ items[best[k]]) - log(sum(below.values())))
        for i, part in below.items():
            slope = weight * (part / sum(below.values()) - (i == best[k]))
            d_users[u] += slope * items[i]
            d_items[i] += slope * users[u]
print(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "weight": weight, "ranked": ranked,
            "unranked": unranked, "loss": loss, "d_users": d_users.tolist(), "d_items": d_items.tolist(),
        }
    )
)  # fmt: skip
