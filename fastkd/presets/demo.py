"""``demo``: a planted catalogue whose best ranking is known, small enough for a minute on two cores.

Few clicks per user and several planted factors make the problem hard for a narrow student and easy for a wide
teacher: the gap that distillation closes. Nothing here is published; sizes and weights are chosen for the clock.
"""

from fastkd.data import DataConfig, SyntheticConfig
from fastkd.evaluation import EvalConfig
from fastkd.models import ModelConfig
from fastkd.presets.study import MethodConfig, RoleConfig, StudyConfig
from fastkd.training import TrainingConfig

DEMO = StudyConfig(
    name="demo",
    description="A small student learns from a large teacher on a planted catalogue",
    data=DataConfig(
        name="planted catalogue",
        synthetic=SyntheticConfig(
            num_users=2000,
            num_items=1500,
            num_clusters=24,
            num_styles=4,
            interactions_per_user=24,
            activity_spread=0.5,
            popularity_exponent=0.6,
            taste_temperature=0.5,
            noise=0.05,
            seed=7,
        ),
    ),
    teacher=RoleConfig(
        model=ModelConfig(name="bpr_mf", dim=64),
        training=TrainingConfig(
            epochs=60, batch_size=2048, negatives=1, lr=5e-3, weight_decay=1e-3, eval_every=2, patience=3
        ),
    ),
    student=RoleConfig(
        model=ModelConfig(name="bpr_mf", dim=8),
        training=TrainingConfig(
            epochs=60, batch_size=2048, negatives=1, lr=5e-3, weight_decay=1e-3, eval_every=2, patience=3
        ),
    ),
    methods={
        "rrd": MethodConfig(
            options={"weight": 0.2, "ranked": 40, "unranked": 80, "top": 200, "temperature": 20.0},
        ),
        "de": MethodConfig(options={"weight": 0.1, "experts": 4, "anneal_epochs": 40}),
        "bd": MethodConfig(
            options={
                "weight": 0.5,
                "teacher_weight": 0.1,
                "rank_sign": -1,
                "base_negatives": "drawn",
                "update": 5,
                "teacher_weight_decay": 1e-3,
            },
            training={"epochs": 20, "patience": 10},
            warm_start="none",
        ),
    },
    seeds=(0,),
    evaluation=EvalConfig(ks=(10, 20), metrics=("recall", "ndcg")),
)
"""Planted catalogue, BPR-MF 64 -> 8; RRD, DE and BD."""
