"""Floor 7: recommendations in bulk, and models exported for other systems."""

from fastkd.serving.export import Export, load_export, save_export
from fastkd.serving.recommend import RecommendOptions, RecommendResult, recommend

__all__ = ["Export", "RecommendOptions", "RecommendResult", "load_export", "recommend", "save_export"]
