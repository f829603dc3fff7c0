"""Golden numbers of HTD: loops in float64 from the formula. Run: python htd.py > htd.json."""

import numpy as np
from feature_case import (
    answer,
    cosine,
    experts,
    given,
    i_set,
    items,
    mixture,
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

gamma = 0.4


def groups():
    """The selection net's choice, users' groups 0 and 1, items' 2 and 3."""
    chosen = [int(np.argmax(nets["user"]["selection"] @ t_users[u] + nets["user"]["selection_bias"])) for u in u_set]
    of_items = [int(np.argmax(nets["item"]["selection"] @ t_items[i] + nets["item"]["selection_bias"])) for i in i_set]
    return chosen + [2 + c for c in of_items]


def loss_of(mode):
    def loss(us, its):
        regression = 0.0
        for kind, ids, s, t in (("user", u_set, us, t_users), ("item", i_set, its, t_items)):
            for e in ids:
                guess = mixture(nets[kind], s[e], t[e], noise[kind][e], tau)
                regression = regression + ((t[e] - guess) ** 2).sum()
        student, teacher, c = [*us[u_set], *its[i_set]], [*t_users[u_set], *t_items[i_set]], groups()
        group = entity = 0.0
        for k in sorted(set(c)):
            members = [a for a in range(len(c)) if c[a] == k]
            held_s = np.real(sum(student[a] for a in members) / len(members))
            held_t = sum(teacher[a] for a in members) / len(members)
            for j in range(len(c)):
                if mode == "code" or c[j] != k:
                    group = group + (cosine(held_t, teacher[j]) - cosine(held_s, student[j])) ** 2
        for a in range(len(c)):
            for b in range(len(c)):
                wanted = cosine(teacher[a], teacher[b])
                if c[a] == c[b] and (mode == "paper" or wanted > 0):
                    entity = entity + (wanted - cosine(student[a], student[b])) ** 2
        return weight * (gamma * (group + entity) + (1 - gamma) * regression)

    return loss


show(
    **given,
    gamma=gamma,
    tau=tau,
    groups=groups(),
    nets={k: plain(n) for k, n in nets.items()},
    noise={k: v.tolist() for k, v in noise.items()},
    paper=answer(loss_of("paper"), users, items),
    code=answer(loss_of("code"), users, items),
)
