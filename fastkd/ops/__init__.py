"""Functional API: plain tensors in, autograd out; ``backend=`` picks who runs it and never what it means."""

from fastkd.ops.expert_mixture import expert_choice, expert_mixture
from fastkd.ops.gather_dot import gather_dot
from fastkd.ops.pairwise import pairwise
from fastkd.ops.rank_topk import TopK, rank_topk
from fastkd.ops.relaxed_ranking import relaxed_ranking, relaxed_ranking_from_embeddings
from fastkd.ops.sample_rank_discrepancy import sample_rank_discrepancy
from fastkd.ops.sample_ranked import sample_ranked
from fastkd.ops.score_topk_chunked import score_topk_chunked
from fastkd.ops.weighted_bce import weighted_bce

__all__ = [
    "TopK",
    "expert_choice",
    "expert_mixture",
    "gather_dot",
    "pairwise",
    "rank_topk",
    "relaxed_ranking",
    "relaxed_ranking_from_embeddings",
    "sample_rank_discrepancy",
    "sample_ranked",
    "score_topk_chunked",
    "weighted_bce",
]
