"""Golden numbers of FTD: loops in float64 from the formula. Run: python ftd.py > ftd.json.

Gradients are complex-step derivatives, exact to rounding: Im f(x + ih) / h.
"""

import json
import sys

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def relu(x):
    return np.where(np.real(x) > 0, x, 0)


def derivative(loss, tables, which):
    out = np.zeros(tables[which].shape)
    for at in np.ndindex(*out.shape):
        moved = [t.astype(complex) for t in tables]
        moved[which][at] += 1e-30j
        out[at] = loss(*moved).imag / 1e-30
    return out.tolist()


def answer(loss, users, items):
    tables = (users, items)
    value = float(np.real(loss(*tables)))
    return {"loss": value, "d_users": derivative(loss, tables, 0), "d_items": derivative(loss, tables, 1)}


def show(**values):
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
    sys.stdout.write(json.dumps(plain))


users, items = 0.9 * sines(4, 2, 0.7, 0.2), 1.1 * sines(6, 2, 1.3, 0.5)
t_users, t_items = sines(4, 3, 0.9, 0.1), sines(6, 3, 0.37, 0.8)
batch, positives, negatives = [2, 0, 2, 3], [1, 4, 1, 0], [[4], [5], [0], [4]]
weight = 0.6
given = {
    "users": users,
    "items": items,
    "t_users": t_users,
    "t_items": t_items,
    "batch": batch,
    "positives": positives,
    "negatives": negatives,
    "weight": weight,
}
u_set, p_set, n_set = sorted(set(batch)), sorted(set(positives)), sorted({j for row in negatives for j in row})
i_set = sorted(set(p_set) | set(n_set))


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum()) / np.sqrt((b * b).sum())


def loss(us, its):
    student, teacher = [*us[u_set], *its[i_set]], [*t_users[u_set], *t_items[i_set]]
    total = 0.0
    for a in range(len(student)):
        for b in range(len(student)):
            total = total + (cosine(teacher[a], teacher[b]) - cosine(student[a], student[b])) ** 2
    return weight * total


show(**given, **answer(loss, users, items), entities=len(u_set) + len(i_set))
