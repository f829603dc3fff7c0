"""Golden numbers of PRM-KD: loops in float64 from the formula. Run: python prm_kd.py > prm_kd.json."""

import json
from math import exp, log, sqrt

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def softmax(values, temperature):
    parts = [exp(v / temperature) for v in values]
    return [part / sum(parts) for part in parts]


def standard(values):
    mean = sum(values) / len(values)
    spread = sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return [(v - mean) / spread for v in values]


def relative(p, q):
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def shannon(p, q):
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (relative(p, middle) + relative(q, middle)) / 2


def weights_of(shares, positives, a, g, priors):
    columns = range(len(shares[0]))
    mean = [sum(v * p[c] for v, p in zip(priors, shares, strict=True)) / sum(priors) for c in columns]
    parts = []
    for v, p in zip(priors, shares, strict=True):
        sure = max(sum(p[c] for c in positives), 1e-12)
        agreed = max(1 - shannon(p, mean) / log(2), 1e-12)
        parts.append(v * sure**a * agreed**g)
    return [part / sum(parts) for part in parts]


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(9, 3, 1.3, 0.5)
batch, weight, temperature = [2, 0, 2], 0.3, 1.7
ids = [[4, 7, 1, 0, 8], [5, 3, 6, -1, -1], [2, -1, 7, 0, -1]]  # two places for positives
teachers = [2.0 * sines(3, 5, 0.61, 0.3), 0.4 * sines(3, 5, 1.9, 0.1), 9.0 * sines(3, 5, 0.37, 1.2)]
temperatures = [0.5, 1.0, 4.0]
cases = {}
for name, plain, a, g, priors in (
    ("scores", True, 1.0, 1.0, [1.0, 1.0, 1.0]),
    ("standardised", False, 0.7, 2.0, [0.2, 3.0, 1.1]),
    ("average", True, 0.0, 0.0, [1.0, 1.0, 1.0]),
):
    loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
    found = {}
    for u in batch:
        places = [c for c in range(5) if ids[u][c] >= 0]
        shares = []
        for t, divisor in zip(teachers, temperatures, strict=True):
            given = [float(t[u][c]) for c in places]
            shares.append(softmax(given if plain else standard(given), divisor))
        positives = [at for at, c in enumerate(places) if c < 2]
        found[u] = weights_of(shares, positives, a, g, priors)
        scores = [float(users[u] @ items[ids[u][c]]) for c in places]
        student = softmax(scores, temperature)
        for w, p in zip(found[u], shares, strict=True):
            loss += weight * temperature**2 * w * relative(p, student)
            for at, c in enumerate(places):
                slope = weight * temperature * w * (student[at] - p[at])
                d_users[u] += slope * items[ids[u][c]]
                d_items[ids[u][c]] += slope * users[u]
    cases[name] = {
        "users": users.tolist(), "items": items.tolist(), "batch": batch, "loss": loss,
        "d_users": d_users.tolist(), "d_items": d_items.tolist(), "standardise": not plain, "confidence": a,
        "consistency": g, "priors": priors, "weights": [found.get(u, [0.0] * 3) for u in range(3)],
    }  # fmt: skip
print(
    json.dumps(
        cases
        | {
            "ids": ids, "teachers": [t.tolist() for t in teachers], "temperatures": temperatures, "weight": weight,
            "temperature": temperature,
        }
    )
)  # fmt: skip
