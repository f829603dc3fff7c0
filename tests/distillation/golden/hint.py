"""Golden numbers of hint regression: loops in float64 from the formula. Run: python hint.py > hint.json."""

import numpy as np
from feature_case import answer, given, i_set, items, plain, relu, show, sines, t_items, t_users, u_set, users, weight


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


show(
    **given,
    mlp=answer(mlp, users, items),
    linear=answer(linear, users, items),
    nets={k: plain(n) for k, n in nets.items()},
    maps={k: plain(n) for k, n in maps.items()},
)
