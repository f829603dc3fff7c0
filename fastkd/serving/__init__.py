"""Floor 7: recommendations in bulk, and models exported for other systems."""

from fastkd.serving.export import Export, load_export, save_export
from fastkd.serving.faiss_index import load_index
from fastkd.serving.preview import RecommendPreview, preview
from fastkd.serving.programs import load_program
from fastkd.serving.recommend import RecommendOptions, RecommendResult, recommend
from fastkd.serving.student import export_student

__all__ = [
    "Export",
    "RecommendOptions",
    "RecommendPreview",
    "RecommendResult",
    "export_student",
    "load_export",
    "load_index",
    "load_program",
    "preview",
    "recommend",
    "save_export",
]
