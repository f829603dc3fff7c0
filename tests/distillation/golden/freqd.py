"""Golden numbers of FreqD: loops in float64 from the formula. Run: python freqd.py > freqd.json."""

import numpy as np
from feature_case import (
    answer,
    given,
    items,
    n_set,
    p_set,
    plain,
    relu,
    show,
    sines,
    t_items,
    t_users,
    u_set,
    users,
    weight,
)

strength, strongest = 0.4, 2
pairs = [(0, 1), (0, 4), (0, 2), (1, 2), (1, 4), (2, 1), (2, 5), (2, 4), (3, 0), (3, 5)]


def net(f):
    return {
        "w1": sines(6, 2, f, 0.1).reshape(2, 3, 2),
        "b1": 0.1 * sines(2, 3, f, 0.3),
        "w2": sines(6, 3, f, 0.5).reshape(2, 3, 3),
        "b2": 0.1 * sines(2, 3, f, 0.7),
    }


nets = {"user": net(0.5), "item": net(0.8)}


def filter_matrix(count, seen):
    """(1 - a) I + a D^-1/2 (W + W') / 2 D^-1/2 of the strongest co-occurrences; ties to the lower id."""
    w = np.zeros((count, count))
    for i in range(count):
        shared = [(-len(seen[i] & seen[j]), j) for j in range(count) if j != i and seen[i] & seen[j]]
        for _, j in sorted(shared)[:strongest]:
            w[i, j] = 1
    w = (w + w.T) / 2
    degrees = w.sum(1)
    for i in range(count):
        for j in range(count):
            if w[i, j]:
                w[i, j] /= np.sqrt(degrees[i] * degrees[j])
    return (1 - strength) * np.eye(count) + strength * w


h = {
    "user": filter_matrix(4, [{i for a, i in pairs if a == u} for u in range(4)]),
    "item": filter_matrix(6, [{u for u, a in pairs if a == i} for i in range(6)]),
}


def projected(kind, s):
    n = nets[kind]
    rows = [sum(n["w2"][e] @ relu(n["w1"][e] @ x + n["b1"][e]) + n["b2"][e] for e in range(2)) / 2 for x in s]
    return np.array(rows)


def loss_of(order, cosine):
    def loss(us, its):
        total = 0.0
        for kind, s, t, sets in (
            ("user", us, t_users, [(u_set, 1)]),
            ("item", its, t_items, [(p_set, 0.5), (n_set, 0.5)]),
        ):
            found = h[kind] @ projected(kind, s) if order == "after" else projected(kind, h[kind] @ s)
            wanted = h[kind] @ t
            for ids, factor in sets:
                for e in ids:
                    a, b = found[e], wanted[e]
                    apart = 1 - (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
                    total = total + factor * (apart if cosine else ((a - b) ** 2).sum())
        return weight * total

    return loss


show(
    **given,
    pairs=pairs,
    strength=strength,
    strongest=strongest,
    nets={k: plain(n) for k, n in nets.items()},
    filters={k: v.tolist() for k, v in h.items()},
    after=answer(loss_of("after", True), users, items),
    before=answer(loss_of("before", False), users, items),
)
