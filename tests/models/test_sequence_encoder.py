"""A saved encoder gives what torch's own transformer gives with the same weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fastkd.core.errors import TeacherError
from fastkd.models import ForeignConfig, VectorsConfig, foreign_teacher
from tests.models.test_foreign import NAMES, ORDER, data_of

DIM, WIDTH, LAYERS, HEADS, LENGTH = 8, 6, 2, 2, 3


def truth(seed=0):
    """torch's layers with random weights, and the same weights under RecBole's names."""
    torch.manual_seed(seed)
    layers = [
        nn.TransformerEncoderLayer(
            DIM, HEADS, 20, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True, norm_first=False
        )
        for _ in range(LAYERS)
    ]
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
    norm, positions = nn.LayerNorm(DIM, eps=1e-12), torch.randn(LENGTH, DIM)
    nn.init.normal_(norm.weight)
    tensors = {"position_embedding.weight": positions, "LayerNorm.weight": norm.weight, "LayerNorm.bias": norm.bias}
    for at, layer in enumerate(layers):
        stem = f"trm_encoder.layer.{at}"
        attention = layer.self_attn
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * DIM, (part + 1) * DIM)
            tensors[f"{stem}.multi_head_attention.{name}.weight"] = attention.in_proj_weight[rows]
            tensors[f"{stem}.multi_head_attention.{name}.bias"] = attention.in_proj_bias[rows]
        for name, part in (
            ("multi_head_attention.dense", attention.out_proj), ("multi_head_attention.LayerNorm", layer.norm1),
            ("feed_forward.dense_1", layer.linear1), ("feed_forward.dense_2", layer.linear2),
            ("feed_forward.LayerNorm", layer.norm2),
        ):  # fmt: skip
            tensors[f"{stem}.{name}.weight"], tensors[f"{stem}.{name}.bias"] = part.weight, part.bias

    def encode(vectors):
        """The last state of one sequence [n, DIM]."""
        x = norm(vectors + positions[: len(vectors)]).unsqueeze(0)
        mask = nn.Transformer.generate_square_subsequent_mask(len(vectors))
        for layer in layers:
            x = layer.eval()(x, src_mask=mask, is_causal=True)
        return x[0, -1]

    return encode, {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def adaptor(experts=3):
    """UniSRec's mixture of whitening layers, and its names."""
    torch.manual_seed(5)
    gate, biases = torch.randn(WIDTH, experts), torch.randn(experts, WIDTH)
    weights = torch.randn(experts, DIM, WIDTH)

    def adapt(x):
        gates = (x @ gate).softmax(1)
        parts = torch.einsum("edw,new->ned", weights, x.unsqueeze(1) - biases)
        return (gates.unsqueeze(2) * parts).sum(1)

    tensors = {"moe_adaptor.w_gate": gate, "moe_adaptor.w_noise": torch.zeros(WIDTH, experts)}
    for j in range(experts):
        tensors[f"moe_adaptor.experts.{j}.bias"] = biases[j].clone()
        tensors[f"moe_adaptor.experts.{j}.lin.weight"] = weights[j].clone()
    return adapt, tensors


def tables_of(tmp_path, items, tensors, **options):
    np.save(tmp_path / "items.npy", items.numpy())
    (tmp_path / "ids.json").write_text(json.dumps(NAMES))
    save_file(tensors, tmp_path / "encoder.safetensors")
    config = ForeignConfig(
        items=VectorsConfig(vectors="items.npy", ids="ids.json"), encode="encoder.safetensors", **options
    )
    return foreign_teacher(config, data_of(), folder=tmp_path).tables()


@pytest.mark.parametrize("length", [None, 2])
def test_users_are_the_last_state_of_their_items(tmp_path, length):
    encode, tensors = truth()
    items = torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))
    tables = tables_of(tmp_path, items, tensors, max_length=length)
    wanted = torch.stack([encode(items[row[-(length or LENGTH) :]]) for row in ORDER])
    torch.testing.assert_close(tables.users, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(tables.items, items)


def test_an_adaptor_brings_text_vectors_to_the_encoders_width(tmp_path):
    encode, tensors = truth()
    adapt, more = adaptor()
    text = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    tables = tables_of(tmp_path, text, tensors | more, cosine=True)
    items = adapt(text)
    wanted = torch.stack([encode(items[row[-LENGTH:]]) for row in ORDER])
    torch.testing.assert_close(tables.items, nn.functional.normalize(items), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tables.users, nn.functional.normalize(wanted), rtol=1e-4, atol=1e-5)


def test_encoders_that_do_not_fit(tmp_path):
    _, tensors = truth()
    _, more = adaptor()
    items, text = torch.randn(5, DIM), torch.randn(5, WIDTH)
    cut = {k: v for k, v in tensors.items() if k != "trm_encoder.layer.1.feed_forward.dense_2.bias"}
    spoiled = tensors | {"LayerNorm.bias": torch.full((DIM,), torch.nan)}
    whole = tensors | more | {"item_embedding.weight": items}
    for vectors, given, options, message in (
        (text, tensors, {}, r"encoder\.safetensors encodes vectors of width 8, the items' are 6"),
        (items, tensors | more, {}, r"its adaptor takes vectors of width 6, got 8"),
        (items, cut, {}, r"lacks trm_encoder\.layer\.1\.feed_forward\.dense_2\.bias"),
        (items, {"weight": items}, {}, r"no sequence encoder of RecBole's form: it lacks position_embedding"),
        (items, spoiled, {}, r"LayerNorm\.bias holds NaN or infinity"),
        (items, tensors, {"heads": 3}, r"width 8 cannot be split over heads=3"),
        (text, whole, {}, r"transductive fine-tuning\): export their sum"),
    ):
        with pytest.raises(TeacherError, match=message):
            tables_of(tmp_path, vectors, given, **options)
