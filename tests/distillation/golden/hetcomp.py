"""Golden numbers of HetComp: loops in float64 from the formulas. Run: python hetcomp.py > hetcomp.json."""

import json
import sys
from math import exp, log, log2

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def parts_of(scores, lists):
    """Sum over (list, others, weight) of weight * PL(list; others), and its gradient to each score."""
    loss, slopes = 0.0, [0.0] * len(scores)
    for listed, others, weight in lists:
        for k in range(len(listed)):
            below = listed[k:] + others
            total = sum(exp(scores[i]) for i in below)
            loss += weight * (log(total) - scores[listed[k]])
            slopes[listed[k]] -= weight
            for i in below:
                slopes[i] += weight * exp(scores[i]) / total
    return loss, slopes


def early(scores, positives, targets, seen):
    others = [i for i in range(len(scores)) if i not in seen and i not in targets]
    return parts_of(scores, [([i], others, 1.0) for i in positives + targets])


def final(scores, positives, targets, seen, half, head):
    free = [i for i in range(len(scores)) if i not in seen]
    first = [i for i in free if i not in targets[:half]]
    second = [i for i in free if i not in targets[:head]]
    lists = [(positives, first, 1.0), (targets[:half], first, 0.5), (targets[:head], second, 0.5)]
    return parts_of(scores, lists)


def distance(student, state):
    top = best = 0.0
    for k in range(len(student)):
        gain = (2 ** exp(-k / 10) - 1) / log2(k + 2)
        best += gain
        if student[k] in state:
            top += gain
    return 1 - top / best


published = (2 * sines(1, 10, 0.77, 0))[0]
users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(12, 3, 1.3, 0.5)
batch = [2, 0, 2]
seen = [[0, 5, 8], [1], [3, 4]]
positives = [[5, 0], [1, -1], [4, 3]]
targets = [[7, 2, 9, 4], [0, 3, 5, 6], [11, 1, 6, 10]]
weight, factor = 0.3, 2.0
cases = {}
for stage in ("early", "final"):
    loss, d_users, d_items = 0.0, np.zeros_like(users), np.zeros_like(items)
    for u in sorted(set(batch)):
        scores = [float(users[u] @ items[i]) for i in range(12)]
        chosen = [i for i in positives[u] if i >= 0]
        if stage == "early":
            value, slopes = early(scores, chosen, targets[u], seen[u])
            scale = weight * factor
        else:
            value, slopes = final(scores, chosen, targets[u], seen[u], 2, 1)
            scale = weight
        loss += scale * value
        for i, slope in enumerate(slopes):
            d_users[u] += scale * slope * items[i]
            d_items[i] += scale * slope * users[u]
    cases[stage] = {
        "users": users.tolist(), "items": items.tolist(), "batch": batch, "loss": loss,
        "d_users": d_users.tolist(), "d_items": d_items.tolist(),
    }  # fmt: skip
lists = [([1, 2, 3], [3, 2, 1]), ([1, 2, 3], [4, 5, 1]), ([0, 7, 9, 4], [9, 8, 6, 5]), ([1], [2])]
sys.stdout.write(
    json.dumps(
        cases
        | {
            "seen": seen, "positives": positives, "targets": targets, "weight": weight, "factor": factor,
            "published_scores": published.tolist(),
            "published_over": early(published.tolist(), [0, 5], [7, 2, 9, 4], [0, 5, 8])[0],
            "published_rank": final(published.tolist(), [0, 5], [7, 2, 9, 4], [0, 5, 8], 2, 1)[0],
            "distances": [{"student": a, "state": b, "distance": distance(a, b)} for a, b in lists],
        }
    )
)  # fmt: skip
