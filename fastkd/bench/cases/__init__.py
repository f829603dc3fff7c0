"""The registry: every case there is, by name, in the order a report shows them."""

from __future__ import annotations

from fastkd.bench.case import Case
from fastkd.bench.cases._catalogue import CATALOGUE
from fastkd.bench.cases._draws import DRAWS
from fastkd.bench.cases._features import FEATURES
from fastkd.bench.cases._jobs import JOBS
from fastkd.bench.cases._listwise import LISTWISE
from fastkd.bench.cases._ranking import RANKING
from fastkd.bench.cases._rows import ROWS
from fastkd.bench.cases._samplers import SAMPLERS
from fastkd.bench.cases._scores import SCORES
from fastkd.bench.cases._updates import UPDATES
from fastkd.core.errors import ConfigError, did_you_mean

_OPS = (*RANKING, *LISTWISE, *CATALOGUE, *SCORES, *DRAWS, *FEATURES, *UPDATES)

CASES: dict[str, Case] = {case.name: case for case in (*_OPS, *SAMPLERS, *ROWS, *JOBS)}

WITHOUT = {
    "explain_rank_topk": "a plan: numbers about a ranking, nothing is ranked",
    "explain_sample_rank_discrepancy": "a plan: numbers about a draw, nothing is drawn",
}
"""Public ops that have no case, and why; every other one has."""


def case_named(name: str) -> Case:
    """Return a case; raises ``ConfigError`` listing what there is."""
    if name not in CASES:
        raise ConfigError(f"no case {name!r}.{did_you_mean(name, CASES)} Known: {', '.join(CASES)}")
    return CASES[name]
