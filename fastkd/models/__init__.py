"""Floor 5: what is trained (recommenders) and what is learned from (teachers)."""

from fastkd.models.bpr_mf import BPRMF
from fastkd.models.cdae import CDAE
from fastkd.models.config import MODELS, ModelConfig, build_model, model_mapping
from fastkd.models.deepfm import DeepFM
from fastkd.models.encoded import EncodedTables
from fastkd.models.foreign import ForeignConfig, VectorsConfig, foreign_teacher, load_foreign
from fastkd.models.lightgcn import LightGCN
from fastkd.models.list_files import ListsConfig, load_lists, save_lists
from fastkd.models.list_teacher import ListTeacher
from fastkd.models.neumf import NeuMF
from fastkd.models.pairs import PairRecommender, PairTables
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.sasrec import SASRec
from fastkd.models.simplex import SimpleX
from fastkd.models.teacher import EmbeddingTeacher, ModelTeacher, Teacher, TopKLists
from fastkd.models.teacher_consensus import rank_consensus
from fastkd.models.teacher_files import load_teacher, save_tables
from fastkd.models.teacher_group import StoredTeacher, TeacherGroup, TeacherTrajectory

__all__ = [
    "BPRMF",
    "CDAE",
    "MODELS",
    "DeepFM",
    "EmbeddingTeacher",
    "EncodedTables",
    "ForeignConfig",
    "LightGCN",
    "ListTeacher",
    "ListsConfig",
    "ModelConfig",
    "ModelTeacher",
    "NeuMF",
    "PairRecommender",
    "PairTables",
    "Recommender",
    "SASRec",
    "SimpleX",
    "StoredTeacher",
    "Tables",
    "Teacher",
    "TeacherGroup",
    "TeacherTrajectory",
    "TopKLists",
    "VectorsConfig",
    "build_model",
    "foreign_teacher",
    "load_foreign",
    "load_lists",
    "load_teacher",
    "model_mapping",
    "rank_consensus",
    "save_lists",
    "save_tables",
]
