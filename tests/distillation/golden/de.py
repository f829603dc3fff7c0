"""Golden numbers of DE: loops in float64 from the formula. Run: python de.py > de.json."""

import numpy as np
from feature_case import (
    answer,
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


def loss(us, its, given_nets=nets):
    total = 0.0
    for u in u_set:
        guess = mixture(given_nets["user"], us[u], t_users[u], noise["user"][u], tau)
        total = total + ((t_users[u] - guess) ** 2).sum()
    for group in (p_set, n_set):
        for i in group:
            guess = mixture(given_nets["item"], its[i], t_items[i], noise["item"][i], tau)
            total = total + 0.5 * ((t_items[i] - guess) ** 2).sum()
    return weight * total


def by_weights(kind, name):
    """The derivative by one array of a kind's experts."""
    out = np.zeros(nets[kind][name].shape)
    for at in np.ndindex(*out.shape):
        moved = nets[kind][name].astype(complex)
        moved[at] += 1e-30j
        out[at] = loss(users, items, {**nets, kind: {**nets[kind], name: moved}}).imag / 1e-30
    return out.tolist()


show(
    **given, **answer(loss, users, items), tau=tau, nets={k: plain(n) for k, n in nets.items()},
    noise={k: v.tolist() for k, v in noise.items()},
    d_nets={kind: {name: by_weights(kind, name) for name in net} for kind, net in nets.items()},
)  # fmt: skip
