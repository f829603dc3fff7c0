"""Golden numbers of PHR: loops in float64 from the formula. Run: python phr.py > phr.json.

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

pairs = [(0, 1), (0, 4), (1, 2), (2, 1), (2, 5), (3, 0)]


def psi(f, made):
    return {
        "w1": sines(4, 3, f, 0.1),
        "b1": 0.1 * sines(1, 4, f, 0.3)[0],
        "w2": 0.5 * sines(made, 4, f, 0.5),
        "b2": 0.1 * sines(1, made, f, 0.7)[0],
    }


full, thin = ({"user": psi(0.5, made), "item": psi(0.8, made)} for made in (6, 5))


def context(kind, e):
    own, other = (t_users[e], t_items) if kind == "user" else (t_items[e], t_users)
    near = [i if kind == "user" else u for u, i in pairs if e == (u if kind == "user" else i)]
    return 0.5 * (own + sum(other[j] for j in near) / len(near)) if near else own


def loss_of(nets, rank):
    def loss(us, its):
        total = 0.0
        for kind, ids, s, t in (("user", u_set, us, t_users), ("item", i_set, its, t_items)):
            n = nets[kind]
            for e in ids:
                made = n["w2"] @ relu(n["w1"] @ context(kind, e) + n["b1"]) + n["b2"]
                if rank is None:
                    guess = made.reshape(3, 2) @ s[e]
                else:
                    guess = made[: 3 * rank].reshape(3, rank) @ (made[3 * rank :].reshape(rank, 2) @ s[e])
                total = total + ((t[e] - guess) ** 2).sum()
        return weight * total

    return loss


def plain(net):
    return {k: v.tolist() for k, v in net.items()}


show(
    **given,
    pairs=pairs,
    full=answer(loss_of(full, None), users, items),
    low=answer(loss_of(thin, 1), users, items),
    full_nets={k: plain(n) for k, n in full.items()},
    low_nets={k: plain(n) for k, n in thin.items()},
)
