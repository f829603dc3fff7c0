"""What kernels compute with and Triton does not bring."""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.core.capability import interpreting

INTERPRETING = tl.constexpr(interpreting())
"""Whether kernels run in Triton's interpreter."""

IEEE = tl.constexpr("ieee")
"""The default of :func:`dot`: triton 3.6 makes a constant of a default number by itself, but not of a string."""


@triton.jit
def dot(a, b, precision: tl.constexpr = IEEE):
    """Return ``a @ b`` in float32; ``precision`` matters for float32 operands only.

    The interpreter of triton 3.6 and 3.7 multiplies the bits of bfloat16 as if they were integers, so there it is
    widened first, which changes no value.
    """
    if INTERPRETING:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b, input_precision=precision)
