"""Golden numbers of IR-RRD: loops in float64 from the formula. Run: python ir_rrd.py > ir_rrd.json."""

import json
import sys

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def relaxed(best, rest):
    """Loss and gradients of - sum_k [b_k - log(sum_{j>=k} e^b_j + sum_l e^r_l)]."""
    loss, to_best, to_rest = 0.0, np.full(len(best), -1.0), np.zeros(len(rest))
    for k in range(len(best)):
        below = sum(np.exp(best[j]) for j in range(k, len(best))) + sum(np.exp(x) for x in rest)
        loss += np.log(below) - best[k]
        for j in range(k, len(best)):
            to_best[j] += np.exp(best[j]) / below
        for j in range(len(rest)):
            to_rest[j] += np.exp(rest[j]) / below
    return loss, to_best, to_rest


def side(rows, columns, wanted, ranked, unranked, d_rows, d_columns, weight):
    total = 0.0
    for r in wanted:
        best = [c for c in ranked[r] if c >= 0]
        rest = [c for c in unranked[r] if c >= 0]
        loss, to_best, to_rest = relaxed(columns[best] @ rows[r], columns[rest] @ rows[r])
        total += loss
        for c, g in [*zip(best, to_best, strict=True), *zip(rest, to_rest, strict=True)]:
            d_rows[r] += weight * g * columns[c]
            d_columns[c] += weight * g * rows[r]
    return total


users, items = 0.9 * sines(4, 3, 0.7, 0.2), 1.1 * sines(7, 3, 1.3, 0.5)
batch = [2, 0, 2, 3]
ranked = [[1, 4], [0, 2], [5, -1], [3, 6]]
unranked = [[0, 3], [5, 6], [2, 4], [-1, -1]]
item_ranked = [[1, 3], [0, 2], [2, 1], [3, -1], [0, 1], [2, 3], [1, 0]]
item_unranked = [[2], [3], [0], [1], [-1], [1], [2]]
weight, item_weight = 0.3, 0.7
d_users, d_items = np.zeros_like(users), np.zeros_like(items)
of_users = side(users, items, sorted(set(batch)), ranked, unranked, d_users, d_items, weight)
found = sorted({c for u in set(batch) for c in ranked[u] + unranked[u] if c >= 0})
of_items = side(items, users, found, item_ranked, item_unranked, d_items, d_users, item_weight)
sys.stdout.write(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "ranked": ranked, "unranked": unranked,
            "item_ranked": item_ranked, "item_unranked": item_unranked, "weight": weight, "item_weight": item_weight,
            "items_found": found, "by_users": of_users, "by_items": of_items,
            "loss": weight * of_users + item_weight * of_items,
            "d_users": d_users.tolist(), "d_items": d_items.tolist(),
        }
    )
)  # fmt: skip
