"""A saved sequence encoder of RecBole's form: item vectors in the order of time -> a user vector.

RecBole's SASRec and what is built on it, such as UniSRec (Hou et al., KDD'22), share these parameters: learned
positions, a normalisation, and layers of causal attention and a GELU network, each added and then normalised.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fastkd.core.errors import TeacherError

EPSILON = 1e-12
"""Of RecBole's normalisations."""

_LINEARS = ("multi_head_attention.query", "multi_head_attention.key", "multi_head_attention.value",
            "multi_head_attention.dense", "feed_forward.dense_1", "feed_forward.dense_2")  # fmt: skip
_NORMS = ("multi_head_attention.LayerNorm", "feed_forward.LayerNorm")


class SequenceEncoder:
    """``h = LN(x + P)``; each layer ``h = LN(h + attention(h))``, ``h = LN(h + W2 gelu(W1 h))``; the last place counts.

    ``tensors``: named as in RecBole's state: ``position_embedding.weight``, ``LayerNorm.*``,
    ``trm_encoder.layer.N.multi_head_attention.{query,key,value,dense,LayerNorm}.*``,
    ``trm_encoder.layer.N.feed_forward.{dense_1,dense_2,LayerNorm}.*``. With UniSRec's ``moe_adaptor.*`` :meth:`adapt`
    brings text vectors to the encoder's width: ``sum_j softmax(x W_gate)_j W_j (x - b_j)``. ``heads``: of attention;
    no tensor tells them. ``origin``: the file, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, heads: int, origin: Path) -> None:
        self._tensors = {name: value.detach().float() for name, value in tensors.items()}
        self._origin, self._heads = origin, heads
        numbers = [int(m[1]) for m in (re.match(r"trm_encoder\.layer\.(\d+)\.", name) for name in tensors) if m]
        self.layers = max(numbers, default=-1) + 1
        self._check()
        self.max_length, self.dim = self._tensors["position_embedding.weight"].shape
        if self.dim % heads:
            raise TeacherError(f"{origin}: vectors of width {self.dim} cannot be split over heads={heads}")

    @property
    def experts(self) -> int:
        """Return the number of experts of the adaptor, 0 where there is none."""
        gate = self._tensors.get("moe_adaptor.w_gate")
        return 0 if gate is None else gate.shape[1]

    def adapt(self, items: Tensor) -> Tensor:
        """Return item vectors Float[N, D'] at the encoder's width, Float[N, D]."""
        if self.experts:
            width = len(self._tensors["moe_adaptor.w_gate"])
            if items.shape[1] != width:
                raise TeacherError(f"{self._origin}: its adaptor takes vectors of width {width}, got {items.shape[1]}")
            gates = (items @ self._tensors["moe_adaptor.w_gate"]).softmax(1)
            adapted = torch.zeros(len(items), self.dim)
            for j in range(self.experts):
                name = f"moe_adaptor.experts.{j}"
                moved = (items - self._tensors[f"{name}.bias"]) @ self._tensors[f"{name}.lin.weight"].T
                adapted += gates[:, j : j + 1] * moved
            return adapted
        if items.shape[1] != self.dim:
            raise TeacherError(f"{self._origin} encodes vectors of width {self.dim}, the items' are {items.shape[1]}")
        return items

    def encode(self, items: Tensor, sequences: Tensor) -> Tensor:
        """Return user vectors Float[B, D] of sequences Int64[B, L], oldest first, -1 at the end; one item at least."""
        length = sequences.shape[1]
        x = functional.embedding(sequences.clamp(min=0), items) + self._tensors["position_embedding.weight"][:length]
        x = self._norm("LayerNorm", x)
        for layer in range(self.layers):
            name = f"trm_encoder.layer.{layer}"
            x = self._norm(f"{name}.multi_head_attention.LayerNorm", x + self._attention(name, x))
            hidden = functional.gelu(self._linear(f"{name}.feed_forward.dense_1", x))
            x = self._norm(f"{name}.feed_forward.LayerNorm", x + self._linear(f"{name}.feed_forward.dense_2", hidden))
        # What follows a user's last item is never read by it, so the padding needs no mask.
        last = (sequences >= 0).sum(1) - 1
        return x[torch.arange(len(x)), last]

    def _attention(self, name: str, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        parts = (self._linear(f"{name}.multi_head_attention.{part}", x) for part in ("query", "key", "value"))
        query, key, value = (part.view(rows, length, self._heads, -1).transpose(1, 2) for part in parts)
        scale = 1 / math.sqrt(self.dim // self._heads)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        return self._linear(f"{name}.multi_head_attention.dense", mixed.transpose(1, 2).reshape(rows, length, -1))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale, shift = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return functional.layer_norm(x, scale.shape, scale, shift, EPSILON)

    def _check(self) -> None:
        """Refuse a file that lacks a parameter or holds values that are not finite."""
        stems = ["LayerNorm"]
        stems += [f"trm_encoder.layer.{n}.{part}" for n in range(self.layers) for part in (*_LINEARS, *_NORMS)]
        wanted = ["position_embedding.weight", *(f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias"))]
        for j in range(self.experts):
            wanted += [f"moe_adaptor.experts.{j}.bias", f"moe_adaptor.experts.{j}.lin.weight"]
        missing = [name for name in wanted if name not in self._tensors]
        if missing or not self.layers:
            lacks = missing[0] if missing else "trm_encoder.layer.0"
            raise TeacherError(f"{self._origin} is no sequence encoder of RecBole's form: it lacks {lacks}")
        if self.experts and "item_embedding.weight" in self._tensors:
            raise TeacherError(
                f"{self._origin} adds item_embedding.weight to the adapted vectors (transductive fine-tuning): "
                "export their sum as the items' vectors, and the encoder without moe_adaptor"
            )
        for name in wanted:
            if not bool(torch.isfinite(self._tensors[name]).all()):
                raise TeacherError(f"{self._origin}: {name} holds NaN or infinity; all values must be finite")
