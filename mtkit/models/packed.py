"""A Transformer's weights as the functions under models/kernels read them.

The records here are those of kernels/matrix.h, attention.h and transformer.cpp, field by field.
"""

import ctypes
import threading
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit.models.compiler import NotCompiledError, kernels, numbers_and_addresses
from mtkit.models.precision import Int8Linear
from mtkit.models.transformer import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    SelfAttention,
    Transformer,
    sinusoids,
)

_PANEL, _LANES = 64, 16  # of kernels/matrix.h and kernels/vectors.h
_UNSIGNED = 128  # what is added to integers of eight bits


class Norm(ctypes.Structure):
    _fields_ = numbers_and_addresses("", "weight bias")


class Matrix(ctypes.Structure):
    _fields_ = numbers_and_addresses("outputs inputs", "panels scale bias")


class Layer(ctypes.Structure):
    """An encoder layer, or a decoder's without its attention to the source."""

    _fields_ = (
        *(("norm", Norm), ("joined", Matrix), ("out", Matrix)),
        *(("feed_norm", Norm), ("inner", Matrix), ("outer", Matrix)),
    )


class CrossLayer(ctypes.Structure):
    """A decoder layer."""

    _fields_ = (
        *(("own", Layer), ("cross_norm", Norm)),
        *(("asked", Matrix), ("cross_joined", Matrix), ("cross_out", Matrix)),
    )


class Shape(ctypes.Structure):
    """A Transformer."""

    _fields_ = (
        *numbers_and_addresses("width heads encoder_layers decoder_layers pre gelu", ""),
        *(("epsilon", ctypes.c_float), ("embedding_scale", ctypes.c_float)),
        *numbers_and_addresses("", "source_embedding target_embedding positions encoder decoder"),
        *(("encoder_norm", Norm), ("decoder_norm", Norm), ("output", Matrix)),
    )


class Packed:
    """The record of a Transformer, and all that its addresses point to."""

    def __init__(self, model: Transformer) -> None:
        """Raises NotCompiledError for a model that the functions are not made for."""
        section = model.section
        widths = (section.width, section.width // section.heads, section.feed_forward)
        if any(width % _LANES for width in widths):
            raise NotCompiledError(
                f"the widths of the model, its heads and its feed-forward layers, {widths}, are no "
                f"multiples of {_LANES}"
            )
        self._held: list[object] = []
        self._positions = torch.empty(0, section.width)
        self._growing = threading.Lock()
        weight, bias = model.output_layer()
        output = vars(model).get("project")
        encoder = [self._layer(layer) for layer in cast("list[EncoderLayer]", list(model.encoder))]
        decoder = [
            self._cross_layer(layer) for layer in cast("list[DecoderLayer]", list(model.decoder))
        ]
        self.shape = Shape(
            width=section.width,
            heads=section.heads,
            encoder_layers=len(encoder),
            decoder_layers=len(decoder),
            pre=section.norm == "pre",
            gelu=section.activation == "gelu",
            epsilon=nn.LayerNorm(1).eps,
            embedding_scale=section.width**0.5,
            source_embedding=self._address(model.source_embedding.weight),
            target_embedding=self._address(model.target_embedding.weight),
            encoder=self._array(Layer, encoder),
            decoder=self._array(CrossLayer, decoder),
            encoder_norm=self._norm(model.encoder_norm),
            decoder_norm=self._norm(model.decoder_norm),
            output=self._linear(output) if output else self._matrix(weight, bias),
        )
        self._positioned = section.positions

    def make_positions(self, length: int) -> None:
        """Let the table of positions be at least so long.

        Shorter ones are held as well: another thread may be in a function that reads one.
        """
        with self._growing:
            if self._positioned and length > len(self._positions):
                self._positions = sinusoids(2 * length, self.shape.width).float()
                self.shape.positions = self._address(self._positions)

    def _cross_layer(self, layer: DecoderLayer) -> CrossLayer:
        cross = layer.cross_attention
        return CrossLayer(
            self._parts(layer.self_attention, layer.self_residual.norm, layer.feed_forward),
            self._norm(layer.cross_residual.norm),
            *map(self._linear, (cross.asked, cross.joined, cross.out)),
        )

    def _layer(self, layer: EncoderLayer) -> Layer:
        return self._parts(layer.self_attention, layer.residual.norm, layer.feed_forward)

    def _parts(self, attention: SelfAttention, norm: nn.Module, feed: FeedForward) -> Layer:
        return Layer(
            self._norm(norm),
            *map(self._linear, (attention.joined, attention.out)),
            self._norm(feed.residual.norm),
            *map(self._linear, (feed.inner, feed.outer)),
        )

    def _norm(self, norm: nn.Module) -> Norm:
        """No addresses for what stands in the place of a norm that is not there."""
        if not isinstance(norm, nn.LayerNorm):
            return Norm()
        return Norm(self._address(norm.weight), self._address(norm.bias))

    def _linear(self, linear: nn.Module) -> Matrix:
        if isinstance(linear, Int8Linear):
            return self._matrix(linear.weight.t(), linear.bias, linear.scale)
        assert isinstance(linear, nn.Linear)
        return self._matrix(linear.weight, linear.bias)

    def _matrix(self, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None) -> Matrix:
        return pack(weight, bias, scale, self._held)

    def _array(self, kind: type[ctypes.Structure], items: Sequence[ctypes.Structure]) -> int:
        array = (kind * len(items))(*items)
        self._held.append(array)
        return ctypes.addressof(array)

    def _address(self, tensor: Tensor) -> int:
        return address(tensor, self._held)


class PackedLinear:
    """What an `Int8Linear` gives, by a compiled function."""

    def __init__(self, linear: Int8Linear) -> None:
        """Of a matrix that `fits`."""
        self._held: list[object] = []
        self._matrix = pack(linear.weight.t(), linear.bias, linear.scale, self._held)
        self._kernels = kernels()

    @staticmethod
    def fits(linear: Int8Linear) -> bool:
        """Whether its rows fill vectors."""
        return linear.weight.size(0) % _LANES == 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """[..., M] -> [..., N]."""
        rows = inputs.contiguous()
        outputs = rows.new_empty(*rows.shape[:-1], self._matrix.outputs)
        self._kernels.product(
            ctypes.byref(self._matrix),
            ctypes.c_void_p(rows.data_ptr()),
            ctypes.c_int64(rows.numel() // self._matrix.inputs),
            ctypes.c_void_p(outputs.data_ptr()),
        )
        return outputs


def pack(weight: Tensor, bias: Tensor | None, scale: Tensor | None, held: list[object]) -> Matrix:
    """[N, M] in panels of 64 rows; integers come in fours, see kernels/matrix.h."""
    outputs, inputs = weight.shape
    spare = -outputs % _PANEL
    panels = F.pad(weight.detach(), (0, 0, 0, spare)).view(-1, _PANEL, inputs)  # [., 64, M]
    if scale is None:
        panels = panels.transpose(1, 2)
    else:
        panels = (panels.short() + _UNSIGNED).to(torch.uint8)
        panels = panels.view(-1, _PANEL, inputs // 4, 4).transpose(1, 2)  # [., M / 4, 64, 4]
    bias = torch.zeros(outputs) if bias is None else bias.detach()
    return Matrix(
        outputs,
        inputs,
        address(panels, held),
        None if scale is None else address(F.pad(scale, (0, spare)), held),
        address(F.pad(bias, (0, spare)), held),
    )


def address(tensor: Tensor, held: list[object]) -> int:
    """Of the tensor's numbers, one behind the other; they are held."""
    kept = tensor.detach().contiguous()
    if kept.is_cuda:
        raise NotCompiledError("the model is on a GPU")
    if kept.dtype not in (torch.float32, torch.uint8):
        raise NotCompiledError(f"its weights are {str(kept.dtype).removeprefix('torch.')}")
    held.append(kept)
    return kept.data_ptr()
