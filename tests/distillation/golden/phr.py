"""Golden numbers of PHR: loops in float64 from the formula. Run: python phr.py > phr.json."""

from feature_case import answer, given, i_set, items, plain, relu, show, sines, t_items, t_users, u_set, users, weight

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


show(
    **given,
    pairs=pairs,
    full=answer(loss_of(full, None), users, items),
    low=answer(loss_of(thin, 1), users, items),
    full_nets={k: plain(n) for k, n in full.items()},
    low_nets={k: plain(n) for k, n in thin.items()},
)
