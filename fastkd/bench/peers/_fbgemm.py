"""FBGEMM's fused table, updated inside backward with row-wise Adagrad (it has no Adam on the CPU)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.cases._rows import LR, rotating
from fastkd.bench.peers import Peer, loaded
from fastkd.bench.peers._torch import step_losses, stepped


def step(point: Point, i: Inputs) -> Call:
    """Return a training step with its table on the host."""
    loaded("fbgemm_gpu")
    made = loaded("fbgemm_gpu.split_table_batched_embeddings_ops_training")
    common = loaded("fbgemm_gpu.split_table_batched_embeddings_ops_common")

    def make(table: nn.Parameter, users: nn.Parameter) -> Any:
        bag = made.SplitTableBatchedEmbeddingBagsCodegen(
            [(len(table), table.shape[1], common.EmbeddingLocation.HOST, made.ComputeDevice.CPU)],
            optimizer=made.OptimType.EXACT_ROWWISE_ADAGRAD, learning_rate=LR, pooling_mode=common.PoolingMode.NONE,
        )  # fmt: skip
        bag.split_embedding_weights()[0].copy_(table.detach())
        optimizer = torch.optim.Adam([users], lr=LR, fused=True)

        def run(ids: Tensor) -> Tensor:
            vectors = bag(ids.reshape(-1), torch.tensor([0, ids.numel()]))
            return stepped(step_losses(users, vectors.view(*ids.shape, -1), i["ranked"]), optimizer)

        return run

    return rotating(i, make, adam=False)


PEER = Peer("fbgemm", "fbgemm_gpu", "fbgemm-gpu-cpu", {"training_step": {"row-wise Adagrad": step}}, devices=("cpu",))
