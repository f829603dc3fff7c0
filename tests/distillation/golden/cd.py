"""Golden numbers of CD: loops in float64 from the formula. Run: python cd.py > cd.json."""

import json
from math import exp, log

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def sigma(x):
    return 1 / (1 + exp(-x))


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(8, 3, 1.3, 0.5)
teacher_users, teacher_items = 1.3 * sines(3, 4, 0.45, 0.1), 1.2 * sines(8, 4, 0.83, 0.9)
batch, temperature, shift, weight = [2, 0, 2], 2.0, 0.7, 0.4
drawn = [[2, 7, 2], [5, 0, 3], [6, 6, -1]]  # with replacement; a slot of user 2 found nothing
teacher_scores = [[float(teacher_users[u] @ teacher_items[i]) if i >= 0 else 0.0 for i in drawn[u]] for u in range(3)]

loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
for u in batch:
    for i, t in zip(drawn[u], teacher_scores[u], strict=True):
        if i < 0:
            continue
        s, q = float(users[u] @ items[i]), sigma((t + shift) / temperature)
        loss -= weight * (q * log(sigma(s)) + (1 - q) * log(sigma(-s)))
        slope = weight * (sigma(s) - q)
        d_users[u] += slope * items[i]
        d_items[i] += slope * users[u]
print(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "weight": weight,
            "temperature": temperature, "shift": shift, "drawn": drawn, "teacher_scores": teacher_scores,
            "loss": loss, "d_users": d_users.tolist(), "d_items": d_items.tolist(),
        }
    )
)  # fmt: skip
