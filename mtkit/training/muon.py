"""Muon: updates of matrices are made orthogonal; everything else goes by AdamW."""

from collections.abc import Callable, Iterable
from typing import cast, overload

import torch
from torch import Tensor

from mtkit.training.host import multiplies_bfloat16
from mtkit.training.sharding import shard_like, whole

# The quintic of Jordan et al. 2024: five steps bring every singular value near one.
_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.AdamW):
    """Jordan et al. 2024, with the step size of Liu et al. 2025 (2.2).

    Parameters of groups with `orthogonal` = True are matrices [m, n]. Their update is the nearest
    orthogonal matrix to the (Nesterov) mean gradient, times 0.2 sqrt(max(m, n)): of the size of
    Adam's, so that one rate serves both. Other groups are AdamW's. Of sharded matrices the mean
    gradients are gathered, and every process makes the whole update.
    """

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        for group in self.param_groups:
            if group["orthogonal"]:
                for matrices in _by_shape(group["params"]):
                    self._turn(matrices, group)
        return cast("float | None", super().step(closure))

    def _turn(self, matrices: list[Tensor], group: dict[str, float]) -> None:
        """Move matrices of one shape, whose products are made together."""
        momentum, rate = group["momentum"], group["lr"]
        wanted = []
        for matrix in matrices:
            state, gradient = self.state[matrix], matrix.grad
            assert gradient is not None
            if not state:
                state["step"] = torch.zeros(())  # every state of Adam's has one
                state["mean"] = torch.zeros_like(matrix)
            mean = state["mean"].lerp_(gradient, 1 - momentum)
            wanted.append(whole(gradient.lerp(mean, momentum)))
            matrix.grad = None  # AdamW leaves alone what has no gradient
        size = 0.2 * max(matrices[0].shape) ** 0.5
        for matrix, change in zip(matrices, orthogonal(torch.stack(wanted)), strict=True):
            change = shard_like(change, matrix)
            matrix.mul_(1 - rate * group["weight_decay"]).sub_(change, alpha=rate * size)


def _by_shape(matrices: Iterable[Tensor]) -> list[list[Tensor]]:
    """Those with a gradient, those of one shape side by side."""
    groups: dict[torch.Size, list[Tensor]] = {}
    for matrix in matrices:
        if matrix.grad is not None:
            groups.setdefault(matrix.shape, []).append(matrix)
    return list(groups.values())


def orthogonal(matrices: Tensor) -> Tensor:
    """Of their shape [..., m, n], with their singular vectors, and singular values near one.

    Float32 is multiplied in bfloat16 where that is faster: the values need not be near.
    """
    wide = matrices.size(-2) <= matrices.size(-1)
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-30)
    if x.dtype == torch.float32 and multiplies_bfloat16(x.device):
        x = x.bfloat16()
    x = x.reshape(-1, *x.shape[-2:])
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):  # a x + (b s + c s s) x with s = x x', each sum within its product
        square = x @ x.mT
        square = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, square, x, beta=a)
    turned: Tensor = (x if wide else x.mT).reshape(matrices.shape).to(matrices.dtype)
    return turned
