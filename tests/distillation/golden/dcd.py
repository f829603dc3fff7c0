"""Golden numbers of DCD: loops in float64 from the formula. Run: python dcd.py > dcd.json."""

import json
import sys
from math import tanh

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(8, 3, 1.3, 0.5)
batch = [2, 0, 2]
seen = [[0, 5], [1], [3]]
teacher_lists = [[2, 7, 1, 4], [5, 0, 3, 6], [6, 2, 0, 1]]
temperature, weight = 10.0, 0.4

ranks, under_weights, over_weights = [], [], []
for u in range(3):
    scores = {i: sum(users[u][d] * items[i][d] for d in range(3)) for i in range(8) if i not in seen[u]}
    order = sorted(scores, key=lambda i: (-scores[i], i))
    ranks.append([order.index(i) + 1 for i in teacher_lists[u]])
    gaps = [(ranks[u][r] - (r + 1)) / temperature for r in range(4)]
    under_weights.append([max(tanh(max(g, 0.0)), 1e-5) for g in gaps])
    over_weights.append([max(tanh(max(-g, 0.0)), 1e-5) for g in gaps])

under, over = [[2, 4], [5, 6], [2, 1]], [[7, 2], [0, 3], [6, -1]]
loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
for u in sorted(set(batch)):
    best, rest = under[u], [i for i in over[u] if i >= 0]
    for k in range(len(best)):
        below = {}
        for i in best[k:] + rest:  # an item in both lists counts twice
            below[i] = below.get(i, 0.0) + float(np.exp(users[u] @ items[i]))
        total = sum(below.values())
        loss += weight * float(np.log(total) - users[u] @ items[best[k]])
        for i, part in [*below.items(), (best[k], -total)]:
            d_users[u] += weight * part / total * items[i]
            d_items[i] += weight * part / total * users[u]

teacher_scores, tau = [[3.0, 2.5, 1.5, 0.2], [1.0, 0.9, 0.1, -2.0], [0.4, 0.3, 0.2, 0.1]], 1.3
over_set, softmax = [[7, 2], [0, 3], [6, 1]], {"loss": 0.0}
ce_users, ce_items = np.zeros_like(users), np.zeros_like(items)
for u in sorted(set(batch)):
    both = sorted(set(under[u]) | set(over_set[u]))  # the lists as a set
    given = [np.exp(teacher_scores[u][teacher_lists[u].index(i)] / tau) for i in both]
    found = [np.exp(users[u] @ items[i] / tau) for i in both]
    for i, t, s in zip(both, given, found, strict=True):
        q, p = t / sum(given), s / sum(found)
        softmax["loss"] -= weight * float(q * np.log(p))
        ce_users[u] += weight * (p - q) / tau * items[i]
        ce_items[i] += weight * (p - q) / tau * users[u]
softmax |= {"over": over_set, "d_users": ce_users.tolist(), "d_items": ce_items.tolist()}
sys.stdout.write(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "seen": seen, "weight": weight,
            "teacher_lists": teacher_lists, "temperature": temperature, "student_ranks": ranks,
            "under_weights": under_weights, "over_weights": over_weights, "under": under, "over": over,
            "teacher_scores": teacher_scores, "tau": tau, "cross_entropy": softmax,
            "loss": loss, "d_users": d_users.tolist(), "d_items": d_items.tolist(),
        }
    )
)  # fmt: skip
