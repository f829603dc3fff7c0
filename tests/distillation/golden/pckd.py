"""Golden numbers of PCKD: loops in float64 from the formula. Run: python pckd.py > pckd.json."""

import numpy as np
from feature_case import (
    answer,
    batch,
    experts,
    given,
    items,
    mixture,
    n_set,
    p_set,
    plain,
    show,
    sines,
    t_items,
    t_users,
    u_set,
    users,
    weight,
)

nets = {"user": experts(0.5), "item": experts(0.8)}
noise = {"user": 0.5 * sines(4, 2, 1.1, 0.0), "item": 0.5 * sines(6, 2, 0.6, 0.4)}
tau = 0.5

alpha, sharp = 0.7, 0.5
lists = [[1, 4, 0], [0, 2, 1], [5, 3, 1], [3, 5, -1]]
pair_items = [[2, 5], [3, 4], [1, 0], [4, 2]]
kept_noise = {"user": 0.5 * sines(4, 2, 0.3, 0.6), "item": 0.5 * sines(6, 2, 0.2, 0.1)}
posts = {"user": [], "item": []}
for kind, s, t in (("user", users, t_users), ("item", items, t_items)):
    posts[kind] = [mixture(nets[kind], s[e], t[e], kept_noise[kind][e], tau) for e in range(len(s))]


def matching(us, its):
    total = 0.0
    for u in u_set:
        total = total + ((t_users[u] - mixture(nets["user"], us[u], t_users[u], noise["user"][u], tau)) ** 2).sum()
    for group in (p_set, n_set):
        for i in group:
            guess = mixture(nets["item"], its[i], t_items[i], noise["item"][i], tau)
            total = total + 0.5 * ((t_items[i] - guess) ** 2).sum()
    return total


def scores(u, ids):
    before = np.array([users[u] @ items[i] for i in ids])
    return before, np.array([posts["user"][u] @ posts["item"][i] for i in ids])


def by_list():
    total = 0.0
    for u in batch:
        before, behind = (x / sharp for x in scores(u, [i for i in lists[u] if i >= 0]))
        p = np.exp(before) / np.exp(before).sum()
        total -= (p * (behind - np.log(np.exp(behind).sum()))).sum()
    return total


def by_pair():
    total = 0.0
    for u in batch:
        before, behind = scores(u, pair_items[u])
        total += np.log(1 + np.exp(-(behind[0] - behind[1]) * (before[0] - before[1])))
    return total


def order_kept():
    kept = seen = 0
    for u in u_set:
        before, behind = scores(u, [i for i in lists[u] if i >= 0])
        for a in range(len(before)):
            for b in range(len(before)):
                if before[a] > before[b]:
                    seen, kept = seen + 1, kept + (behind[a] > behind[b])
    return kept / seen


def loss_of(regulariser):
    return lambda us, its: weight * (matching(us, its) + alpha * regulariser)


show(
    **given,
    alpha=alpha,
    sharp=sharp,
    tau=tau,
    lists=lists,
    pairs=pair_items,
    order_kept=order_kept(),
    nets={k: plain(n) for k, n in nets.items()},
    noise={k: v.tolist() for k, v in noise.items()},
    kept_noise={k: v.tolist() for k, v in kept_noise.items()},
    list=answer(loss_of(by_list()), users, items),
    pair=answer(loss_of(by_pair()), users, items),
    hybrid=answer(loss_of(by_list() + by_pair()), users, items),
)
