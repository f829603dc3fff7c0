"""How much of the teacher's advantage a distilled student keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recovered:
    """``share``: of the teacher's gap, or None with the ``reason`` why it is undefined."""

    share: float | None
    reason: str | None = None


def recovered_share(teacher: float, student: float, distilled: float) -> Recovered:
    """Return ``(distilled - student) / (teacher - student)``.

    1 means as good as the teacher, 0 as good as the plain student; below 0 distillation hurt, above 1 the
    student passed its teacher. Undefined when the teacher is no better than the plain student.
    """
    for name, value in (("teacher", teacher), ("student", student), ("distilled", distilled)):
        if not math.isfinite(value):
            return Recovered(None, f"the {name} has no value ({value})")
    if teacher <= student:
        return Recovered(None, f"the teacher ({teacher:.4g}) is no better than the plain student ({student:.4g})")
    return Recovered((distilled - student) / (teacher - student))
