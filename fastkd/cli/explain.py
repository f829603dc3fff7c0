"""What happened in a study of planted data, in words; every number comes from its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastkd.presets import PLAIN, StudyConfig


def explain(config: StudyConfig, values: Mapping[str, Any]) -> str:
    """Return paragraphs: the data, the gap, what the methods recovered, and why a teacher's list helps.

    ``values``: the content of results.json.
    """
    paragraphs = [_data(values), _gap(values), _recovered(values), _why(config, values)]
    return "\n\n".join(p for p in paragraphs if p)


def _clicks(values: Mapping[str, Any]) -> float:
    return float(values["data"]["rows"]["train"] / max(values["data"]["users"], 1))


def _data(values: Mapping[str, Any]) -> str:
    metric, users, items = values["lead_metric"], values["data"]["users"], values["data"]["items"]
    clicks = _clicks(values)
    text = (
        f"The catalogue is planted: {users:,} users and {items:,} items whose true tastes are known. Training sees "
        f"{clicks:.0f} clicks per user, {100 * clicks / items:.1f} % of the catalogue."
    )
    ceiling = (values.get("oracle") or {}).get(metric)
    if ceiling is not None:
        text += f" Ranking by the true tastes reaches {metric} {ceiling:.4f}: no model can expect more."
    return text


def _gap(values: Mapping[str, Any]) -> str:
    metric, teacher, plain = values["lead_metric"], values["teacher"], values["students"].get(PLAIN)
    if teacher is None or plain is None:
        return ""
    student = next(iter(plain["seeds"].values()))
    high, low = teacher["metrics"][metric], plain["mean"][metric]
    text = (
        f"The teacher has {teacher['parameters'] or 0:,} parameters ({teacher['dim']} per user and item) and reaches "
        f"{metric} {high:.4f}. A student with {student['parameters']:,} parameters ({student['dim']} per user and "
        f"item), trained on the same clicks alone, reaches {low:.4f}"
    )
    if high <= low:
        return f"{text}: here the teacher is no better, so there is nothing to hand over."
    return f"{text}: a gap of {high - low:.4f}, {100 * (high - low) / high:.0f} % of the teacher's quality."


def _recovered(values: Mapping[str, Any]) -> str:
    metric, parts = values["lead_metric"], []
    for name, student in values["students"].items():
        share = (student.get("recovered") or {}).get(metric)
        if share is None:
            continue
        p_value = (student.get("against_plain") or {}).get(metric, {}).get("p_value")
        doubt = "" if p_value is None or p_value < 0.05 else f", perhaps by chance: p = {p_value:.2g}"
        parts.append(f"{name} {student['mean'][metric]:.4f} ({100 * share:+.0f} % of the gap{doubt})")
    if not parts:
        return ""
    return (
        f"Taught by the teacher, a student of the same size reaches: {'; '.join(parts)}. "
        "It is as cheap to serve as the plain one."
    )


def _why(config: StudyConfig, values: Mapping[str, Any]) -> str:
    text = (
        "Why a teacher helps: clicks say which few items a user took and nothing about the order of the rest. The "
        "teacher, wide enough to learn from everybody's clicks at once, orders the items a user never clicked"
    )
    rrd = values["students"].get("rrd")
    share = ((rrd or {}).get("recovered") or {}).get(values["lead_metric"])
    if share is None or "rrd" not in config.methods:
        return f"{text}."
    listed = config.methods["rrd"].options.get("top", 500)
    text += f"; its list tells the student about {listed} such items per user, beside {_clicks(values):.0f} own clicks."
    if share <= 0:
        text += " In this run that did not help: the student with lists is no better than the plain one."
    return text
