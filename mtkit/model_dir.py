"""A model directory: weights, recipe, tokenizers and a card; plain data, nothing is executed.

    weights.safetensors     parameters, shared ones once
    recipe.toml             the resolved recipe
    joint.spm               or source.spm and target.spm
    card.json               versions, sizes, digests of the tokenizers, what the model was made of

A run folder is a model directory from its first validation on.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import ModelError, RecipeError, UsageError
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import Recipe

__all__ = ["LoadedModel", "average", "load", "save"]

FORMAT = 1
WEIGHTS, RECIPE, CARD = "weights.safetensors", "recipe.toml", "card.json"
_WHOLE = f"a model directory holds {WEIGHTS}, {RECIPE}, {CARD} and .spm files: copy all of them"
_UPGRADE = "upgrade, in the checkout that was installed: git pull && pip install -e ."

Card = dict[str, Any]  # JSON


@dataclass(frozen=True)
class LoadedModel:
    """What a model directory holds, ready to translate."""

    model: Seq2Seq
    recipe: Recipe
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer  # the same object as the source's when they are joint
    card: Card
    path: Path


def save(
    folder: Path,
    model: Seq2Seq,
    recipe: Recipe,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    card: Mapping[str, object],
) -> None:
    """Write a model directory, or replace the model in one; other files there are left alone.

    Every file is written aside and flushed to the disk before the first is renamed. To `card` are
    added the format, versions, parameter count, and sizes and digests of the tokenizers. Raises
    ModelError when the folder cannot be written to; the model that was there stays then.
    """
    tokenizers = {"source.spm": source_tokenizer, "target.spm": target_tokenizer}
    if source_tokenizer.fingerprint == target_tokenizer.fingerprint:
        tokenizers = {"joint.spm": source_tokenizer}
    table = {
        **card,
        "format": FORMAT,
        "mtkit": _version(),
        "torch": torch.__version__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": {"source": source_tokenizer.size, "target": target_tokenizer.size},
        "tokenizers": {name: spm.fingerprint for name, spm in tokenizers.items()},
    }
    weights = {name: tensor.contiguous() for name, tensor in weights_of(model).items()}
    card_text = json.dumps(table, indent=1, ensure_ascii=False) + "\n"
    writers: dict[str, Callable[[Path], object]] = {
        **{name: spm.save for name, spm in tokenizers.items()},
        RECIPE: lambda path: path.write_text(recipe.to_toml(), encoding="utf-8"),
        WEIGHTS: lambda path: _write_weights(weights, path),
        CARD: lambda path: path.write_text(card_text, encoding="utf-8"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            write(_aside(folder, name))
            _flush(_aside(folder, name))
        for name in writers:
            _aside(folder, name).replace(folder / name)
        for name in {"joint.spm", "source.spm", "target.spm"} - set(tokenizers):
            (folder / name).unlink(missing_ok=True)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        for name in writers:
            _aside(folder, name).unlink(missing_ok=True)
        raise ModelError(
            f"{folder}: the model cannot be written there ({error})", "name another folder"
        ) from None


def _write_weights(weights: dict[str, Tensor], path: Path) -> None:
    path.touch()
    mode = path.stat().st_mode
    save_file(weights, path)
    path.chmod(mode)  # safetensors keeps the file to its owner, whatever the umask says


def load(folder: Path, device: str = "cpu") -> LoadedModel:
    """Read a model directory, for evaluation; `auto` is a CUDA device where there is one.

    Raises ModelError when a part is missing, damaged, too new or does not fit the others.
    """
    card = _read_card(folder)
    try:
        recipe = Recipe.load(folder / RECIPE)
    except RecipeError as error:
        written, ours = str(card.get("mtkit", "")), _version()
        if _numbers(written) > _numbers(ours) > []:
            newer = f"{error.message}; it was written by mtkit {written}, and this is mtkit {ours}"
            raise ModelError(newer, _UPGRADE) from None
        raise ModelError(error.message, error.hint) from None
    tokenizers = _load_tokenizers(folder, card)
    with _Undrawn():
        model = build(recipe.model, tokenizers[0].size, tokenizers[1].size)
    fill(model, _read_weights(folder / WEIGHTS), folder)
    return LoadedModel(model.eval().to(_device(device)), recipe, *tokenizers, card, folder)


def fill(model: Seq2Seq, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Let the model's parameters be these tensors, without copying. Raises ModelError.

    `folder` stands in the errors.
    """
    wanted = _stored(model)
    hint = f"{RECIPE} and {WEIGHTS} must come from the same run"
    for name in [*wanted, *weights]:
        if name not in weights:
            raise ModelError(f"{folder / WEIGHTS} lacks {name}, which {RECIPE} describes", hint)
        if name not in wanted:
            raise ModelError(
                f"{folder / WEIGHTS} has {name}, which {RECIPE} knows nothing of", hint
            )
        if weights[name].shape != wanted[name].shape:
            raise ModelError(
                f"{folder / WEIGHTS}: {name} is {_shape(weights[name])}, but {RECIPE} describes "
                f"{_shape(wanted[name])}",
                hint,
            )
    for name, tensor in wanted.items():
        tensor.data = weights[name].to(tensor.dtype)


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights of model directories, or of weight files (Vaswani et al. 2017, 6.1).

    Tensors are read one at a time, so many large models do not fill the memory. Raises ModelError.
    """
    if not paths:
        raise UsageError("nothing is named to be averaged", "name two model directories or more")
    files = [path / WEIGHTS if path.is_dir() else path for path in paths]
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(file)) for file in files]
        shapes = [_shapes(file) for file in opened]
        for file, found in zip(files, shapes, strict=True):
            if found != shapes[0]:
                raise ModelError(
                    f"{file} and {files[0]} are weights of different models",
                    "only models of the same recipe and vocabulary have a mean",
                )
        return {name: _mean([file.get_tensor(name) for file in opened]) for name in shapes[0]}


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, "pt")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: cannot be read ({error})", "name model directories") from None


def _shapes(file: Any) -> dict[str, list[int]]:
    names: list[str] = file.keys()
    return {name: file.get_slice(name).get_shape() for name in names}


def _mean(tensors: list[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[-1]
    total = torch.zeros_like(tensors[0], dtype=torch.float64)
    for tensor in tensors:
        total += tensor
    return (total / len(tensors)).to(tensors[0].dtype)


def weights_of(model: Seq2Seq) -> dict[str, Tensor]:
    """The parameters and stored buffers by name, shared ones once; in the model's own memory."""
    return {name: tensor.detach() for name, tensor in _stored(model).items()}


def _stored(model: Seq2Seq) -> dict[str, Tensor]:
    """The parameters and stored buffers themselves by name, shared ones once."""
    stored: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            stored[name] = tensor
    return stored


class _Undrawn(TorchFunctionMode):
    """Leaves out the drawing of random weights, which costs more than loading the real ones.

    Buffers are made as always; that every parameter is replaced, `fill` makes sure.
    """

    draws = frozenset({"normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_"})

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if getattr(func, "__name__", "") in self.draws:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("mtkit")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _read_card(folder: Path) -> Card:
    if folder.is_file():
        raise ModelError(f"{folder} is a file, not a model directory", _WHOLE)
    if not folder.is_dir():
        hint = f"see: ls {quote(str(folder.parent))}"
        raise ModelError(f"{folder}: there is no such model directory", hint)
    begun = (folder / "log.jsonl").exists()
    if begun and not (folder / CARD).exists() and not (folder / WEIGHTS).exists():
        raise ModelError(
            f"{folder}: the run holds no model yet: it was not validated so far",
            "let it train to its first validation",
        )
    for name in (CARD, RECIPE, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing", _WHOLE)
    try:
        card: Card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        version = card["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{folder / CARD}: damaged, or not a model's card", _WHOLE) from None
    if version != FORMAT:
        raise ModelError(
            f"{folder}: a model of format {version}, written by mtkit {card.get('mtkit', '?')}; "
            f"this is mtkit {_version()}, which reads format {FORMAT}",
            _UPGRADE,
        )
    return card


def _load_tokenizers(folder: Path, card: Card) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers that the card names; they must be the very ones of training."""
    read = []
    for name, fingerprint in dict(card.get("tokenizers", {})).items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing", _WHOLE)
        tokenizer = Tokenizer.load(folder / name)
        if tokenizer.fingerprint != fingerprint:
            raise ModelError(
                f"{folder / name} has {tokenizer.size} pieces, but is not the tokenizer that the "
                "model was trained with",
                "put back the file that was saved with the model",
            )
        read.append(tokenizer)
    if not read:
        raise ModelError(f"{folder / CARD} names no tokenizer", _WHOLE)
    return read[0], read[-1]


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: damaged, or cut short ({error})", "copy the file again, or train once more"
        ) from None
    return weights


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: no such kind of device", "--device cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"--device {name}: there is no such device here ({str(error).splitlines()[0]})",
            "--device auto",
        ) from None
    return device


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _aside(folder: Path, name: str) -> Path:
    return folder / f".{name}.part"


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
