"""Functional API: plain tensors in, autograd out; ``backend=`` picks who runs it and never what it means."""

from fastkd.ops._explain_rank_topk import TopKExplanation, explain_rank_topk
from fastkd.ops._explain_sample_rank_discrepancy import DiscrepancyExplanation, explain_sample_rank_discrepancy
from fastkd.ops.catalogue_divergence import catalogue_divergence
from fastkd.ops.catalogue_logsumexp import catalogue_logsumexp
from fastkd.ops.catalogue_softmax import catalogue_softmax
from fastkd.ops.dropout import dropout
from fastkd.ops.expert_mixture import expert_choice, expert_mixture
from fastkd.ops.gather_dot import gather_dot
from fastkd.ops.graph_filter import graph_filter
from fastkd.ops.gumbel import gumbel
from fastkd.ops.hyper_projection import hyper_projection
from fastkd.ops.lambda_pairs import lambda_pairs
from fastkd.ops.lambda_pairs_from_embeddings import lambda_pairs_from_embeddings
from fastkd.ops.linear import linear
from fastkd.ops.listnet import listnet
from fastkd.ops.listnet_from_embeddings import listnet_from_embeddings
from fastkd.ops.pairwise import pairwise
from fastkd.ops.pairwise_from_embeddings import pairwise_from_embeddings
from fastkd.ops.rank_of import rank_of
from fastkd.ops.rank_topk import TopK, rank_topk
from fastkd.ops.ranks_within import ranks_within
from fastkd.ops.relaxed_ranking import relaxed_ranking
from fastkd.ops.relaxed_ranking_from_embeddings import relaxed_ranking_from_embeddings
from fastkd.ops.row_gradient import row_gradient
from fastkd.ops.row_update import row_adagrad, row_adam, row_sgd
from fastkd.ops.sample_positions import sample_positions
from fastkd.ops.sample_rank_discrepancy import sample_rank_discrepancy
from fastkd.ops.sample_ranked import sample_ranked
from fastkd.ops.sample_softmax import sample_softmax
from fastkd.ops.sample_unobserved import sample_unobserved
from fastkd.ops.sample_weighted import sample_weighted
from fastkd.ops.sampled_softmax import sampled_softmax
from fastkd.ops.score_topk_chunked import score_topk_chunked
from fastkd.ops.soft_bce import soft_bce
from fastkd.ops.soft_bce_from_embeddings import soft_bce_from_embeddings
from fastkd.ops.topology_distance import Distance, prototype_distance, topology_distance
from fastkd.ops.weighted_bce import weighted_bce
from fastkd.ops.weighted_bce_from_embeddings import weighted_bce_from_embeddings

__all__ = [
    "DiscrepancyExplanation",
    "Distance",
    "TopK",
    "TopKExplanation",
    "catalogue_divergence",
    "catalogue_logsumexp",
    "catalogue_softmax",
    "dropout",
    "expert_choice",
    "expert_mixture",
    "explain_rank_topk",
    "explain_sample_rank_discrepancy",
    "gather_dot",
    "graph_filter",
    "gumbel",
    "hyper_projection",
    "lambda_pairs",
    "lambda_pairs_from_embeddings",
    "linear",
    "listnet",
    "listnet_from_embeddings",
    "pairwise",
    "pairwise_from_embeddings",
    "prototype_distance",
    "rank_of",
    "rank_topk",
    "ranks_within",
    "relaxed_ranking",
    "relaxed_ranking_from_embeddings",
    "row_adagrad",
    "row_adam",
    "row_gradient",
    "row_sgd",
    "sample_positions",
    "sample_rank_discrepancy",
    "sample_ranked",
    "sample_softmax",
    "sample_unobserved",
    "sample_weighted",
    "sampled_softmax",
    "score_topk_chunked",
    "soft_bce",
    "soft_bce_from_embeddings",
    "topology_distance",
    "weighted_bce",
    "weighted_bce_from_embeddings",
]
