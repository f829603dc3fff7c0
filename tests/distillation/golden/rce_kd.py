"""Golden numbers of RCE-KD: loops in float64 from the formula. Run: python rce_kd.py > rce_kd.json."""

import json
from math import exp, log

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(12, 3, 1.3, 0.5)
teacher_users, teacher_items = 1.3 * sines(3, 4, 0.45, 0.1), 1.2 * sines(12, 4, 0.83, 0.9)
batch, temperature, beta, weight = [2, 0, 2], 1.5, 2.0, 0.4
listed, top, positions = 3, 6, [1, 3, 5]  # K, length of the student's list, positions drawn from it


def order(a, b, u):
    scores = [float(a[u] @ b[i]) for i in range(len(b))]
    return sorted(range(len(b)), key=lambda i: (-scores[i], i))


def lists_of(u):
    wanted, mine = order(teacher_users, teacher_items, u)[:listed], order(users, items, u)[:top]
    best, drawn = mine[:listed], [mine[r - 1] for r in positions]
    mixed = drawn + [i for i in wanted if i not in drawn and i not in best]
    ahead = [min(50, sum(1 for i in wanted if i in mine and mine.index(i) + 1 >= r)) for r in range(1, top + 1)]
    share = exp(-beta * sum(1 for i in wanted if i in drawn) / listed)
    return {"wanted": wanted, "student": mine, "best": best, "mixed": mixed, "ahead": ahead, "share": share}


loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
for u in batch:
    found = lists_of(u)
    for part, ids in ((1 - found["share"], found["best"]), (found["share"], found["mixed"])):
        t = [exp(float(teacher_users[u] @ teacher_items[i]) / temperature) for i in ids]
        s = [exp(float(users[u] @ items[i]) / temperature) for i in ids]
        for c, i in enumerate(ids):
            q, p = t[c] / sum(t), s[c] / sum(s)
            loss -= weight * part * q * log(p)
            slope = weight * part * (p - q) / temperature
            d_users[u] += slope * items[i]
            d_items[i] += slope * users[u]
print(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "weight": weight, "listed": listed,
            "teacher_users": teacher_users.tolist(), "teacher_items": teacher_items.tolist(), "top": top,
            "temperature": temperature, "beta": beta, "positions": positions,
            "lists": [lists_of(u) for u in range(3)],
            "loss": loss, "d_users": d_users.tolist(), "d_items": d_items.tolist(),
        }
    )
)  # fmt: skip
