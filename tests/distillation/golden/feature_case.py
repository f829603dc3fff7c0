"""What the golden scripts of feature methods share: inputs, networks, complex-step derivatives and the way out.

Gradients are complex-step derivatives, exact to rounding: Im f(x + ih) / h.
"""

import json
import sys

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def relu(x):
    return np.where(np.real(x) > 0, x, 0)


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum()) / np.sqrt((b * b).sum())


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


def plain(net):
    return {k: v.tolist() for k, v in net.items()}


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


def experts(f):
    """Two experts Linear(2, 2) - ReLU - Linear(2, 3) and a selection net Linear(3, 2)."""
    return {
        "w1": sines(4, 2, f, 0.1).reshape(2, 2, 2),
        "b1": 0.1 * sines(2, 2, f, 0.3),
        "w2": sines(4, 3, f, 0.5).reshape(2, 2, 3),
        "b2": 0.1 * sines(2, 3, f, 0.7),
        "selection": sines(2, 3, f, 0.9),
        "selection_bias": np.array([0.0, 0.1]),
    }


def mixture(net, s, t, g, tau):
    """The published gates: log of the softmax, plus noise, over tau."""
    alpha = np.exp(net["selection"] @ t + net["selection_bias"])
    logits = (np.log(alpha / alpha.sum()) + g) / tau
    z = np.exp(logits - logits.max())
    z = z / z.sum()
    total = 0.0
    for e in range(2):
        total = total + z[e] * (relu(net["w1"][e] @ s + net["b1"][e]) @ net["w2"][e] + net["b2"][e])
    return total
