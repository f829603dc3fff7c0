"""Optimisers for big tables: a step costs what the batch touched, not what the table holds.

They take the row-sparse gradients of ``sparse_grad=True`` (and of ``torch.nn.Embedding(sparse=True)``). Several losses
may read one table: autograd joins their gradients, and equal rows are summed in a fixed order before the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from fastkd.core.pages import use_large_pages
from fastkd.ops.row_gradient import row_gradient
from fastkd.ops.row_update import ascending, row_adagrad, row_adam, row_sgd


class RowOptimizer(torch.optim.Optimizer):
    """Steps listed rows only; a parameter with a dense gradient (a projector's weight) has all its rows stepped.

    ``in_backward``: the update happens inside ``loss.backward()``, as soon as a parameter's gradient is whole, and the
    gradient is freed at once; ``step()`` then has nothing left to do. Weight decay, like every other change, reaches
    a row only in steps that touch it. Big tables on the CPU and what is kept of their rows move to large memory pages
    (:func:`fastkd.core.use_large_pages`): rows scattered over 4 KiB pages take longer to find than to read.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], *, in_backward: bool = False) -> None:
        for name, value in defaults.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not number >= 0 for number in numbers):
                raise ValueError(f"{name} must be at least 0, got {value!r}")
        super().__init__(params, defaults)
        self._handles = []
        if in_backward:
            for group in self.param_groups:
                for parameter in group["params"]:
                    hook = self._hook(group)
                    self._handles.append(parameter.register_post_accumulate_grad_hook(hook))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in torch; its tables get large memory pages."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            use_large_pages(parameter)

    def _hook(self, group: dict[str, Any]) -> Callable[[Tensor], None]:
        def update(parameter: Tensor) -> None:
            self._step_parameter(parameter, group)
            parameter.grad = None

        return update

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_parameter(parameter, group)
        return loss

    @torch.no_grad()
    def _step_parameter(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        rows, values = _rows_of(gradient, parameter)
        table = parameter.data.view(len(values), -1) if gradient.layout is torch.strided else parameter.data
        self._update(table, rows, values, self._state_of(parameter, table, group), group)

    def _state_of(self, parameter: Tensor, table: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state.update(self._fresh(table, group))
            for kept in state.values():
                use_large_pages(kept)
        return state

    def _fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        raise NotImplementedError

    def _update(
        self, table: Tensor, rows: Tensor, values: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        raise NotImplementedError


class RowSGD(RowOptimizer):
    """Stochastic gradient descent; see :func:`fastkd.ops.row_sgd`."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, *, weight_decay: float = 0.0, in_backward: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay}, in_backward=in_backward)

    def _fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {}

    def _update(
        self, table: Tensor, rows: Tensor, values: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        row_sgd(table, rows, values, lr=group["lr"], weight_decay=group["weight_decay"])


class RowAdagrad(RowOptimizer):
    """Adagrad; ``rowwise`` keeps one accumulator a row instead of D. See :func:`fastkd.ops.row_adagrad`."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        rowwise: bool = False,
        in_backward: bool = False,
    ) -> None:
        defaults = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "rowwise": rowwise}
        super().__init__(params, defaults, in_backward=in_backward)

    def _fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"sum": table.new_zeros((len(table), 1)) if group["rowwise"] else torch.zeros_like(table)}

    def _update(
        self, table: Tensor, rows: Tensor, values: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        options = {name: group[name] for name in ("lr", "eps", "weight_decay")}
        row_adagrad(table, rows, values, state["sum"], **options)


class RowAdam(RowOptimizer):
    """Lazy Adam whose bias correction counts each row's own steps; see :func:`fastkd.ops.row_adam`.

    ``decoupled``: weight decay as in AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        in_backward: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "decoupled": decoupled}
        super().__init__(params, defaults, in_backward=in_backward)

    def _fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        # torch keeps the dtype of a state called "step" when it loads one.
        step = torch.zeros(len(table), dtype=torch.int32, device=table.device)
        return {"exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table), "step": step}

    def _update(
        self, table: Tensor, rows: Tensor, values: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        moments = (state["exp_avg"], state["exp_avg_sq"], state["step"])
        options = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay", "decoupled")}
        row_adam(table, rows, values, moments, **options)


def _rows_of(gradient: Tensor, parameter: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows Int64[R] ascending, values [R, D]) of a parameter's gradient."""
    if gradient.layout is torch.strided:
        count = 1 if parameter.dim() == 0 else len(parameter)
        return torch.arange(count, device=gradient.device), gradient.reshape(count, -1)
    if gradient.layout is not torch.sparse_coo or gradient.sparse_dim() != 1 or gradient.dim() != 2:
        raise TypeError(
            f"a gradient must be dense or list rows of a table (sparse_coo with 1 sparse of 2 dimensions), "
            f"got layout {gradient.layout} of shape {list(gradient.shape)}"
        )
    rows, values = gradient._indices()[0], gradient._values()
    # Autograd forgets that a gradient is coalesced when it keeps it; to see it again takes a hundredth of a new sum.
    if gradient.is_coalesced() or ascending(rows):
        return rows, values
    return row_gradient(values, rows[:, None], values.new_ones((len(rows), 1)))
