"""Floor 0: interactions, errors, seeds, configuration, capability. Knows nothing above itself."""

from fastkd.core.errors import (
    BackendError,
    CheckpointError,
    ConfigError,
    DataError,
    FastKDError,
    FastKDWarning,
    TeacherError,
    TrainingError,
)
from fastkd.core.interactions import Interactions
from fastkd.core.pages import use_large_pages
from fastkd.core.seeds import Seeds

__all__ = [
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "FastKDError",
    "FastKDWarning",
    "Interactions",
    "Seeds",
    "TeacherError",
    "TrainingError",
    "use_large_pages",
]
