"""``citeulike-lightgcn``: LightGCN 64 -> 20 on CiteULike's ordered split.

Follows the LGCN -> LGCN rows of RCE-KD's Table 1: 3 layers, batch 2048, weight decay 1e-7 for the teacher and 1e-3
for the student, lambda and lists from the published configuration files, sums on both sides.

Where we deviate: the published teacher is 2000 wide. Each step propagates all 30,400 nodes through three layers, so
the width is the cost; 64 is a width for two cores, and the published teacher figure is no target for it. The learning
rate is 5e-3 instead of 1e-3, so that 100 epochs at most (HetComp 40) go far enough; evaluation every 5 with patience 4.
DE has 5 experts instead of 20, annealed over 10 epochs. BD trains both graphs for 40 epochs and has no published row.

CD, UnKD and RCE-KD are as published for this pair of models. KD-CE, RD, DCD and HetComp have no file for it and are
those of the MF pair, with this student's learning rate; IR-RRD is RRD and an item side of half its weight, over 4096
items a step. HetComp learns from three states of the teacher, which keeps one every 25 epochs, and its users move
every 5 epochs.

HTD and PCKD (``cpd``, 5 experts instead of 20) are as published for this pair of models; FreqD has weight, decay and
edge dropout of its relative GraphD, whose filter comes before the projector too (the published file for FreqD is for
MF); hint, FTD and PHR have no file for it and are those of the MF pair, PHR over 64 hidden units; ``de+rrd`` is both as
they stand here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fastkd.models import ModelConfig
from fastkd.presets.citeulike import CITEULIKE
from fastkd.presets.study import MethodConfig, PublishedConfig, RoleConfig, StudyConfig
from fastkd.training import TrainingConfig

_TRAINING = TrainingConfig(
    epochs=100, batch_size=2048, lr=5e-3, weight_decay=1e-3, reduction="sum", eval_every=5, patience=4
)

_RRD: Mapping[str, Any] = {"weight": 0.01, "ranked": 50, "unranked": 100}
_DE: Mapping[str, Any] = {"weight": 0.005, "experts": 5, "anneal_epochs": 10}


def _of_mf(name: str, *, epochs: int = 100, **options: Any) -> MethodConfig:
    """Return a method as the MF pair has it, but for ``options`` and the number of epochs."""
    method = CITEULIKE.methods[name]
    training = {**method.training, "epochs": epochs}
    return dataclasses.replace(method, options={**method.options, **options}, training=training)


CITEULIKE_LIGHTGCN: StudyConfig = dataclasses.replace(
    CITEULIKE,
    name="citeulike-lightgcn",
    description="CiteULike, ordered 8:1:1 split, LightGCN 64 -> 20",
    teacher=RoleConfig(
        model=ModelConfig(name="lightgcn", dim=64, layers=3),
        training=dataclasses.replace(_TRAINING, weight_decay=1e-7, keep_every=25),
    ),
    student=RoleConfig(model=ModelConfig(name="lightgcn", dim=20, layers=3), training=_TRAINING),
    methods={
        "kd_ce": _of_mf("kd_ce"),
        "rd": _of_mf("rd", start_epoch=4),
        "cd": _of_mf("cd"),
        "rrd": _of_mf("rrd", **_RRD),
        "ir_rrd": _of_mf("ir_rrd", weight=0.01, ranked=50, unranked=100, item_weight=0.005),
        "dcd": _of_mf("dcd"),
        "unkd": _of_mf("unkd", groups=4, pairs=30),
        "hetcomp": _of_mf("hetcomp", epochs=40, update=5),
        "rce_kd": _of_mf("rce_kd", drawn=100, beta=10.0),
        "de": MethodConfig(options=_DE, training={"weight_decay": 1e-5, "epochs": 100}),
        "hint": _of_mf("hint"),
        "phr": _of_mf("phr", hidden=64),
        "ftd": _of_mf("ftd"),
        "htd": _of_mf("htd"),
        "pckd": MethodConfig(
            options={
                **CITEULIKE.methods["pckd"].options,
                "weight": 0.005,
                "alpha": 0.05,
                "top": 500,
                "list_temperature": 0.01,
            },
            training={"weight_decay": 1e-5, "epochs": 100},
        ),
        "freqd": MethodConfig(
            options={"weight": 0.1, "order": "before", "neighbours": 5, "edge_dropout": 0.5, "normalize": True},
            training={"weight_decay": 1e-7, "epochs": 100},
        ),
        "de+rrd": MethodConfig(
            options={"methods": {"de": _DE, "rrd": {**CITEULIKE.methods["rrd"].options, **_RRD}}},
            training={"weight_decay": 1e-5, "epochs": 100},
        ),
        "bd": _of_mf("bd", epochs=40),
    },
    seeds=(0, 1, 2),
    published=PublishedConfig(
        source="RCE-KD, Table 1, LightGCN -> LightGCN on CiteULike (5 runs)",
        protocol=(
            "Published figures: same interactions, split rule, masking and metrics; their teacher is 2000 wide, ours "
            "64, so only the order of the students may be compared."
        ),
        figures={
            "teacher": {"recall@10": 0.0296, "ndcg@10": 0.0160, "recall@20": 0.0461, "ndcg@20": 0.0205},
            "none": {"recall@10": 0.0215, "ndcg@10": 0.0113, "recall@20": 0.0344, "ndcg@20": 0.0148},
            "cd": {"recall@10": 0.0234, "ndcg@10": 0.0125, "recall@20": 0.0354, "ndcg@20": 0.0161},
            "rrd": {"recall@10": 0.0247, "ndcg@10": 0.0125, "recall@20": 0.0359, "ndcg@20": 0.0158},
            "dcd": {"recall@10": 0.0243, "ndcg@10": 0.0124, "recall@20": 0.0360, "ndcg@20": 0.0155},
            "hetcomp": {"recall@10": 0.0248, "ndcg@10": 0.0127, "recall@20": 0.0362, "ndcg@20": 0.0160},
            "rce_kd": {"recall@10": 0.0262, "ndcg@10": 0.0133, "recall@20": 0.0377, "ndcg@20": 0.0171},
        },
    ),
)
"""CiteULike, ordered split, LightGCN."""
