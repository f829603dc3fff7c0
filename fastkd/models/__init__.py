"""Floor 5: what is trained (recommenders) and what is learned from (teachers)."""

from fastkd.models.bpr_mf import BPRMF
from fastkd.models.config import MODELS, ModelConfig, build_model
from fastkd.models.lightgcn import LightGCN
from fastkd.models.list_teacher import ListTeacher
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import EmbeddingTeacher, ModelTeacher, Teacher, TopKLists
from fastkd.models.teacher_files import load_teacher, save_lists, save_tables

__all__ = [
    "BPRMF",
    "MODELS",
    "EmbeddingTeacher",
    "LightGCN",
    "ListTeacher",
    "ModelConfig",
    "ModelTeacher",
    "Recommender",
    "Tables",
    "Teacher",
    "TopKLists",
    "build_model",
    "load_teacher",
    "save_lists",
    "save_tables",
]
