"""Golden numbers of hint regression: loops in float64 from the formula. Run: python hint.py > hint.json.

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


def net(f):
    return {
        "w1": sines(3, 2, f, 0.1)[None],
        "b1": 0.1 * sines(1, 3, f, 0.3),
        "w2": sines(3, 3, f, 0.5)[None],
        "b2": 0.1 * sines(1, 3, f, 0.7),
    }


nets = {"user": net(0.5), "item": net(0.8)}
maps = {
    "user": {"weight": sines(3, 2, 0.4, 0.2), "bias": 0.2 * sines(1, 3, 0.4, 0.1)[0]},
    "item": {"weight": sines(3, 2, 0.6, 0.3), "bias": 0.2 * sines(1, 3, 0.9, 0.1)[0]},
}


def mlp(us, its):
    total = 0.0
    for kind, ids, s, t in (("user", u_set, us, t_users), ("item", i_set, its, t_items)):
        n = nets[kind]
        for e in ids:
            guess = n["w2"][0] @ relu(n["w1"][0] @ s[e] + n["b1"][0]) + n["b2"][0]
            total = total + ((t[e] - guess) ** 2).sum()
    return weight * total


def linear(us, its):
    """Centred and normalised."""
    total = 0.0
    for kind, ids, s, t in (("user", u_set, us, t_users), ("item", i_set, its, t_items)):
        n, mean = maps[kind], t[ids].mean(0)
        for e in ids:
            guess, wanted = n["weight"] @ s[e] + n["bias"], t[e] - mean
            gap = wanted / np.sqrt((wanted * wanted).sum()) - guess / np.sqrt((guess * guess).sum())
            total = total + (gap * gap).sum()
    return weight * total


def plain(net):
    return {k: v.tolist() for k, v in net.items()}


show(
    **given,
    mlp=answer(mlp, users, items),
    linear=answer(linear, users, items),
    nets={k: plain(n) for k, n in nets.items()},
    maps={k: plain(n) for k, n in maps.items()},
)
