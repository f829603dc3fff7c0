"""Floor 7: the training loop, its checkpoints and its logs."""

from fastkd.training.callbacks import Callback, EarlyStop, RunInfo
from fastkd.training.config import TrainingConfig
from fastkd.training.logs import JsonlLog, TensorBoard, ThroughputMeter
from fastkd.training.result import TrainResult
from fastkd.training.row_optimisers import RowAdagrad, RowAdam, RowSGD
from fastkd.training.signals import TrainingInterrupted
from fastkd.training.step import base_loss
from fastkd.training.trainer import Trainer

__all__ = [
    "Callback",
    "EarlyStop",
    "JsonlLog",
    "RowAdagrad",
    "RowAdam",
    "RowSGD",
    "RunInfo",
    "TensorBoard",
    "ThroughputMeter",
    "TrainResult",
    "Trainer",
    "TrainingConfig",
    "TrainingInterrupted",
    "base_loss",
]
