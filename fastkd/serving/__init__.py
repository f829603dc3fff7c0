"""Floor 7: recommendations in bulk, and models exported for other systems."""

from fastkd.serving.export import Export, load_export, save_export
from fastkd.serving.preview import RecommendPreview, preview
from fastkd.serving.recommend import RecommendOptions, RecommendResult, recommend

__all__ = [
    "Export",
    "RecommendOptions",
    "RecommendPreview",
    "RecommendResult",
    "load_export",
    "preview",
    "recommend",
    "save_export",
]
