"""Golden numbers of RD: loops in float64 from the formula. Run: python rd.py > rd.json."""

import json
from math import exp, floor, log, tanh

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(8, 3, 1.3, 0.5)
batch, lam, mu, weight = [2, 0, 2], 2.0, 0.3, 0.4
lists = [[2, 7, 1, 4], [5, 0, 3, 6], [6, 2, 0, -1]]  # user 2 has three items
sampled = [[0, 3, 5, 3, 6], [1, 2, 4, 7, 7], [1, 3, 4, 5, 7]]
n, catalogue = 5, 8


def sigma(x):
    return 1 / (1 + exp(-x))


def weights_of(u, hybrid):
    listed = [i for i in lists[u] if i >= 0]
    places = range(1, len(listed) + 1)
    position = [exp(-r / lam) for r in places]
    position = [w / sum(position) for w in position]
    if not hybrid:
        return position, None
    ranks = []
    for i in listed:
        above = sum(1 for d in sampled[u] if users[u] @ items[d] > users[u] @ items[i])
        ranks.append(floor((catalogue - 1) * above / n) + 1)
    mixed = [w * tanh(max(mu * (rank - r), 0.0)) for w, rank, r in zip(position, ranks, places, strict=True)]
    return [w / sum(mixed) if sum(mixed) > 0 else 0.0 for w in mixed], ranks


def total(hybrid):
    loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
    for u in batch:
        listed = [i for i in lists[u] if i >= 0]
        for w, i in zip(weights_of(u, hybrid)[0], listed, strict=True):
            s = float(users[u] @ items[i])
            loss -= weight * w * log(sigma(s))
            slope = -weight * w * sigma(-s)
            d_users[u] += slope * items[i]
            d_items[i] += slope * users[u]
    return {"loss": loss, "d_users": d_users.tolist(), "d_items": d_items.tolist()}


print(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "weight": weight, "lam": lam, "mu": mu,
            "lists": lists, "sampled": sampled, "ranks": [weights_of(u, True)[1] for u in range(3)],
            "position": total(False), "hybrid": total(True),
        }
    )
)  # fmt: skip
