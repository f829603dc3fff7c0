"""Golden numbers of KD-CE: loops in float64 from the formula. Run: python kd_ce.py > kd_ce.json."""

import json
from math import exp, log

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(8, 3, 1.3, 0.5)
teacher_users, teacher_items = 1.3 * sines(3, 4, 0.45, 0.1), 1.2 * sines(8, 4, 0.83, 0.9)
batch, temperature, weight = [2, 0, 2], 1.7, 0.4
lists = [[2, 7, 1, 4], [5, 0, 3, 6], [6, 2, 0, -1]]  # user 2 has three items

teacher_scores = [[float(teacher_users[u] @ teacher_items[i]) if i >= 0 else 0.0 for i in lists[u]] for u in range(3)]


def cross_entropy(u, listed, t):
    """The loss of one row and what it adds to the gradients."""
    s = [float(users[u] @ items[i]) for i in listed]
    q = [exp(x / temperature) for x in t]
    p = [exp(x / temperature) for x in s]
    q, p = [x / sum(q) for x in q], [x / sum(p) for x in p]
    slopes = [(p[c] - q[c]) / temperature for c in range(len(listed))]
    return -sum(q[c] * log(p[c]) for c in range(len(listed))), slopes


def total(listed_of, scores_of):
    loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
    for u in batch:
        listed = [i for i in listed_of[u] if i >= 0]
        row, slopes = cross_entropy(u, listed, scores_of[u][: len(listed)])
        loss += weight * row
        for i, slope in zip(listed, slopes, strict=True):
            d_users[u] += weight * slope * items[i]
            d_items[i] += weight * slope * users[u]
    return {"loss": loss, "d_users": d_users.tolist(), "d_items": d_items.tolist()}


everything = [list(range(8))] * 3
all_scores = [[float(teacher_users[u] @ teacher_items[i]) for i in range(8)] for u in range(3)]
print(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "weight": weight,
            "teacher_users": teacher_users.tolist(), "teacher_items": teacher_items.tolist(),
            "temperature": temperature, "lists": lists, "teacher_scores": teacher_scores,
            **total(lists, teacher_scores), "catalogue": total(everything, all_scores),
        }
    )
)  # fmt: skip
