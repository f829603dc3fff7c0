"""``citeulike-lightgcn``: LightGCN 64 -> 20 on CiteULike's ordered split.

Follows the LGCN -> LGCN rows of RCE-KD's Table 1: 3 layers, batch 2048, weight decay 1e-7 for the teacher and 1e-3
for the student, lambda and lists from the published configuration files, sums on both sides.

Where we deviate: the published teacher is 2000 wide. Each step propagates all 30,400 nodes through three layers, so
the width is the cost; 64 is a width for two cores, and the published teacher figure is no target for it. The learning
rate is 5e-3 instead of 1e-3, so that 100 epochs at most (ranking methods 40, DE 30) go far enough; evaluation every 5
with patience 4. DE has 5 experts instead of 20, annealed over 10 epochs. BD trains both graphs and has no published
row; it refreshes once in its 10 epochs.

CD, UnKD and RCE-KD are as published for this pair of models. KD-CE, RD, DCD and HetComp have no file for it and are
those of the MF pair, with this student's learning rate; IR-RRD is RRD and an item side of half its weight, over 4096
items a step. HetComp learns from three states of the teacher, which keeps one every 25 epochs, and its users move
every 5 epochs.

HTD and PCKD (``cpd``, 5 experts instead of 20) are as published for this pair of models; FreqD has weight, decay and
edge dropout of its relative GraphD, whose filter comes before the projector too (the published file for FreqD is for
MF); hint, FTD and PHR have no file for it and are those of the MF pair, PHR over 64 hidden units; ``de+rrd`` is both as
they stand here. They train for 30 epochs.
"""

import dataclasses

from fastkd.models import ModelConfig
from fastkd.presets.citeulike import CITEULIKE
from fastkd.presets.study import MethodConfig, PublishedConfig, RoleConfig, StudyConfig
from fastkd.training import TrainingConfig

_TRAINING = TrainingConfig(
    epochs=100, batch_size=2048, lr=5e-3, weight_decay=1e-3, reduction="sum", eval_every=5, patience=4
)

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
        "kd_ce": MethodConfig(
            options={"weight": 1.0, "listed": 50, "temperature": 1.0, "guide": "student"},
            training={"weight_decay": 1e-7, "epochs": 40},
        ),
        "rd": MethodConfig(
            options={"weight": 1.0, "listed": 30, "mu": 0.1, "samples": 100, "start_epoch": 4},
            training={"weight_decay": 1e-5, "epochs": 40},
        ),
        "cd": MethodConfig(
            options={"weight": 0.5, "guide": "student", "drawn": 2, "top": 3000, "temperature": 2.0, "shift": 0.0},
            training={"weight_decay": 1e-8, "epochs": 40},
        ),
        "rrd": MethodConfig(
            options={"weight": 0.01, "ranked": 50, "unranked": 100, "top": 500, "temperature": 10.0},
            training={"weight_decay": 1e-5, "epochs": 40},
        ),
        "ir_rrd": MethodConfig(
            options={
                "weight": 0.01,
                "ranked": 50,
                "unranked": 100,
                "item_weight": 0.005,
                "item_ranked": 20,
                "item_unranked": 20,
                "items_per_step": 4096,
            },
            training={"weight_decay": 1e-5, "epochs": 40},
        ),
        "dcd": MethodConfig(
            options={"weight": 0.01, "ranked": 100, "top": 500, "temperature": 10.0},
            training={"weight_decay": 1e-5, "epochs": 40},
        ),
        "unkd": MethodConfig(
            options={"weight": 0.5, "groups": 4, "pairs": 30, "tilt": 0.0},
            training={"weight_decay": 1e-8, "epochs": 40},
        ),
        "hetcomp": MethodConfig(
            options={"weight": 0.005, "ranked": 50, "states": 3, "update": 5, "alpha": 1.05, "use_base_loss": True},
            training={"weight_decay": 1e-3, "epochs": 40},
        ),
        "rce_kd": MethodConfig(
            options={"weight": 500.0, "listed": 50, "drawn": 100, "top": 200, "temperature": 1.0, "beta": 10.0},
            training={"weight_decay": 1e-5, "epochs": 40},
        ),
        "de": MethodConfig(
            options={"weight": 0.005, "experts": 5, "anneal_epochs": 10},
            training={"weight_decay": 1e-5, "epochs": 30},
        ),
        "hint": MethodConfig(
            options={"weight": 0.05, "projector": "mlp", "hidden_ratio": 5.0, "dropout": 0.2, "entities": "uniform"},
            training={"weight_decay": 1e-7, "epochs": 30},
        ),
        "phr": MethodConfig(
            options={"weight": 0.01, "hidden": 64, "rank": 4},
            training={"weight_decay": 1e-4, "epochs": 30},
        ),
        "ftd": MethodConfig(options={"weight": 1e-3}, training={"weight_decay": 1e-3, "epochs": 30}),
        "htd": MethodConfig(
            options={"weight": 0.5, "gamma": 0.9, "pairs": "code", "experts": 30, "anneal_epochs": 10},
            training={"weight_decay": 1e-8, "epochs": 30},
        ),
        "pckd": MethodConfig(
            options={
                "weight": 0.005,
                "alpha": 0.05,
                "regulariser": "list",
                "guide": "teacher",
                "listed": 5,
                "top": 500,
                "sharpness": 10.0,
                "list_temperature": 0.01,
                "experts": 5,
                "anneal_epochs": 10,
            },
            training={"weight_decay": 1e-5, "epochs": 30},
        ),
        "freqd": MethodConfig(
            options={"weight": 0.1, "order": "before", "neighbours": 5, "edge_dropout": 0.5, "normalize": True},
            training={"weight_decay": 1e-7, "epochs": 30},
        ),
        "de+rrd": MethodConfig(
            options={
                "methods": {
                    "de": {"weight": 0.005, "experts": 5, "anneal_epochs": 10},
                    "rrd": {"weight": 0.01, "ranked": 50, "unranked": 100, "top": 500, "temperature": 10.0},
                }
            },
            training={"weight_decay": 1e-5, "epochs": 30},
        ),
        "bd": MethodConfig(
            options={"weight": 0.5, "teacher_weight": 0.5, "rank_sign": -1, "base_negatives": "drawn"},
            training={"weight_decay": 0.0, "epochs": 10},
            warm_start="none",
        ),
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
