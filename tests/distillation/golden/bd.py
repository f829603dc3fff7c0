"""Golden numbers of BD: loops in float64 from the formulas. Run: python bd.py > bd.json."""

import json
from math import exp, log

import numpy as np


def sines(rows, columns, f, p):
    return np.array([[np.sin(f * (1 + i) * (2 + j) + p) for j in range(columns)] for i in range(rows)])


def sigma(x):
    return 1 / (1 + exp(-x))


users, items = 0.9 * sines(3, 3, 0.7, 0.2), 1.1 * sines(8, 3, 1.3, 0.5)
teacher_users, teacher_items = 1.2 * sines(3, 4, 0.9, 0.1), 0.8 * sines(8, 4, 0.6, 0.4)
entries, batch, positives, negatives = [2, 0, 3], [2, 0, 2], [1, 4, 6], [[7], [2], [0]]
to_student = [[5, 3], [0, 0], [2, 2], [7, 4]]  # an item may be drawn twice
to_teacher = [[1, 6], [0, 0], [3, 0], [5, 5]]
weight, teacher_weight, temperatures = 0.4, 0.3, {"student": 2.0, "teacher": 5.0}

gradients = {"users": np.zeros_like(users), "items": np.zeros_like(items)}
teacher_gradients = {"users": np.zeros_like(teacher_users), "items": np.zeros_like(teacher_items)}


def pull(tables, found, u, i, slope):
    found["users"][u] += slope * tables[1][i]
    found["items"][i] += slope * tables[0][u]


def distilled(learner, found, giver, temperature, drawn, factor):
    """BCE of the learner's scores against the giver's probabilities, which are constants."""
    loss = 0.0
    for e, u in zip(entries, batch, strict=True):
        for i in drawn[e]:
            score, wanted = float(learner[0][u] @ learner[1][i]), sigma(float(giver[0][u] @ giver[1][i]) / temperature)
            loss -= factor * (wanted * log(sigma(score)) + (1 - wanted) * log(1 - sigma(score)))
            pull(learner, found, u, i, factor * (sigma(score) - wanted))
    return loss


student, teacher = (users, items), (teacher_users, teacher_items)
loss = distilled(student, gradients, teacher, temperatures["teacher"], to_student, weight)
loss += distilled(teacher, teacher_gradients, student, temperatures["student"], to_teacher, teacher_weight)
for u, i, (j,) in zip(batch, positives, negatives, strict=True):
    gap = float(teacher_users[u] @ (teacher_items[i] - teacher_items[j]))
    loss -= log(sigma(gap))
    pull(teacher, teacher_gradients, u, i, -sigma(-gap))
    pull(teacher, teacher_gradients, u, j, sigma(-gap))
print(
    json.dumps(
        {
            "users": users.tolist(), "items": items.tolist(), "batch": batch, "entries": entries,
            "positives": positives, "negatives": negatives, "teacher_users": teacher_users.tolist(),
            "teacher_items": teacher_items.tolist(), "to_student": to_student, "to_teacher": to_teacher,
            "weight": weight, "teacher_weight": teacher_weight, "student_temperature": temperatures["student"],
            "teacher_temperature": temperatures["teacher"], "loss": loss, "d_users": gradients["users"].tolist(),
            "d_items": gradients["items"].tolist(), "d_teacher_users": teacher_gradients["users"].tolist(),
            "d_teacher_items": teacher_gradients["items"].tolist(),
        }
    )
)  # fmt: skip
