"""The numbers that a model computes with when it translates: float32, bfloat16 or int8.

int8 keeps each row of a weight matrix as integers of eight bits with a scale of its own, and turns
each row of activations into integers when it comes, likewise (Bhandare et al. 2019; Dettmers et al.
2022, 2.1). Products are summed in 32-bit integers, so they are exact: what a row gives does not
depend on the rows beside it. Everything but the matrices, attention among it, stays float32.
"""

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mtkit.errors import UsageError
from mtkit.models.cells import ChoGRU, Products, step_by
from mtkit.models.seq2seq import Seq2Seq

Precision = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_LARGEST = 127.0
_NARROW = 4  # matrices with a side below this stay as they are: there is nothing to gain


class Int8Linear(nn.Module):
    """What an `nn.Linear` gives, to about one percent, from integers.

    `torch._int_mm` is the product behind torch's own dynamic quantisation; of all that torch 2.13
    offers on a CPU with VNNI it is the fastest at the sizes of a decoder's step, and it is exact.
    On others it is exact and slow; the compiled function is not.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Of a matrix [N, M] and a bias [N]."""
        super().__init__()
        self.compiled: Callable[[Tensor], Tensor] | None = None  # a function that does the same
        scale, rounded = in_eight_bits(weight.detach().float())  # [N, 1], [N, M]
        turned = rounded.t()  # [M, N]
        # The kernel takes both layouts; tall matrices are faster in this one when rows are few.
        self.weight = turned.contiguous() if len(turned) > len(rounded) else turned
        self.scale = scale.flatten()
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., M] -> [..., N]."""
        if self.compiled is not None:
            return self.compiled(inputs)
        scale, rounded = in_eight_bits(inputs.flatten(0, -2))
        # In place from here on: a fresh tensor costs more than the arithmetic.
        outputs = torch._int_mm(rounded, self.weight).float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            outputs.add_(self.bias)
        return outputs.view(*inputs.shape[:-1], -1)


def in_eight_bits(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [N, M] as scale [N, 1] and int8 [N, M], whose product they nearly are."""
    scale = rows.abs().amax(1, keepdim=True).clamp_min_(1e-30).div_(_LARGEST)
    return scale, rows.div(scale).round_().to(torch.int8)


def apply(model: Seq2Seq, precision: str) -> None:
    """Let the model, in place, compute with these numbers; it can then only translate.

    `auto` is float32. Raises UsageError for a name that is no precision, and for int8 on a GPU.
    """
    match precision:
        case "auto" | "float32":
            model.float()
        case "bfloat16":
            model.bfloat16()
        case "int8":
            if any(parameter.is_cuda for parameter in model.parameters()):
                raise UsageError("int8 is a precision for CPUs", "--precision bfloat16")
            matrix, bias = model.float().output_layer()
            _replace(model, matrix)
            # The embedding may need the same matrix in float32, so it stays; the method gives way.
            vars(model)["project"] = Int8Linear(matrix, bias)
            for name, child in model.named_children():
                if name != "encoder":  # that reads a whole sentence by one fused kernel
                    round_steps(child)
        case _:
            raise UsageError(
                f"{precision} is not a precision", f"known precisions: {', '.join(PRECISIONS)}"
            )


def int8_products(model: Seq2Seq) -> Iterator[Int8Linear]:
    """All products of integers that `apply` has put into a model."""
    for module in model.modules():
        for value in (module, *vars(module).values()):
            if isinstance(value, Products):
                value = (value.inputs, value.states)
            yield from (
                each
                for each in (value if isinstance(value, tuple) else (value,))
                if isinstance(each, Int8Linear)
            )


def _replace(module: nn.Module, spared: Tensor) -> None:
    """Put an `Int8Linear` in the place of every `nn.Linear` but that of the spared matrix."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            if child.weight is not spared and min(child.weight.shape) >= _NARROW:
                setattr(module, name, Int8Linear(child.weight, child.bias))
        else:
            _replace(child, spared)


@torch.no_grad()
def round_steps(module: nn.Module) -> None:
    """Let recurrent layers step by integers.

    Their own matrices become what the integers stand for, since teacher forcing goes by them.
    """
    for layer in module.modules():
        if not isinstance(layer, nn.RNNBase) or isinstance(layer, ChoGRU):
            continue
        inputs, states, *biases = layer.all_weights[0]
        pairs = zip((inputs, states), biases, strict=True)
        products = [Int8Linear(weight, bias) for weight, bias in pairs]
        for weight, product in zip((inputs, states), products, strict=True):
            weight.copy_(product.weight.t() * product.scale.unsqueeze(1))
        step_by(layer, Products(*products))
