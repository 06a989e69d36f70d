"""Muon: updates of matrices are made orthogonal; everything else goes by AdamW."""

from collections.abc import Callable
from typing import cast, overload

import torch
from torch import Tensor

# The quintic of Jordan et al. 2024: five steps bring every singular value near one.
_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.AdamW):
    """Jordan et al. 2024, with the step size of Liu et al. 2025 (2.2).

    Parameters of groups with `orthogonal` = True are matrices [m, n]. Their update is the nearest
    orthogonal matrix to the (Nesterov) mean gradient, times 0.2 sqrt(max(m, n)): of the size of
    Adam's, so that one rate serves both. Other groups are AdamW's.
    """

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        for group in self.param_groups:
            for matrix in group["params"] if group["orthogonal"] else ():
                if matrix.grad is None:
                    continue
                self._turn(matrix, group)
                matrix.grad = None  # AdamW leaves alone what has no gradient
        return cast("float | None", super().step(closure))

    def _turn(self, matrix: Tensor, group: dict[str, float]) -> None:
        state = self.state[matrix]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)  # every state of Adam's has one
            state["mean"] = torch.zeros_like(matrix)
        gradient, momentum = matrix.grad, group["momentum"]
        assert gradient is not None
        mean = state["mean"].lerp_(gradient, 1 - momentum)
        change = orthogonal(gradient.lerp(mean, momentum))
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(change, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Of the matrix' shape [m, n], with its singular vectors, and singular values near one."""
    wide = matrix.size(0) <= matrix.size(1)
    x = matrix if wide else matrix.t()
    x = x / (x.norm() + 1e-30)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        square = x @ x.t()
        x = a * x + (b * square + c * square @ square) @ x
    turned: Tensor = x if wide else x.t()
    return turned
