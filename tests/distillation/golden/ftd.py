"""Golden numbers of FTD: loops in float64 from the formula. Run: python ftd.py > ftd.json."""

from feature_case import answer, cosine, given, i_set, items, show, t_items, t_users, u_set, users, weight


def loss(us, its):
    student, teacher = [*us[u_set], *its[i_set]], [*t_users[u_set], *t_items[i_set]]
    total = 0.0
    for a in range(len(student)):
        for b in range(len(student)):
            total = total + (cosine(teacher[a], teacher[b]) - cosine(student[a], student[b])) ** 2
    return weight * total


show(**given, **answer(loss, users, items), entities=len(u_set) + len(i_set))
