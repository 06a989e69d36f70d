"""What the host gives and asks: signals, its kind of numbers, its name."""

import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from mtkit.errors import RecipeError

_ECHO_SECONDS = 5.0


@contextmanager
def stopping_at_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first Ctrl-C or SIGTERM; a second one ends the program at once.

    Under torchrun a process may hear one stop several times: from the terminal or the scheduler,
    which tell the whole group, and from torchrun, which tells its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    echo = _ECHO_SECONDS if "TORCHELASTIC_RUN_ID" in os.environ else 0.0
    first: list[float] = []

    def heard(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if first and now - first[0] >= echo:
            raise KeyboardInterrupt
        if not first:
            first.append(now)
            stop()

    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products (a CPU tells since torch 2.10)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_precision(asked: str, device: torch.device, model: nn.Module) -> str:
    """float32 or bfloat16; `auto` takes bfloat16 where matrix products are made in it.

    Raises RecipeError for bfloat16 of a recurrent model on a GPU: within autocast, cuDNN's
    recurrent layers compute in float16, whatever is asked, and small gradients become zero.
    """
    recurrent = any(isinstance(part, nn.RNN | nn.GRU | nn.LSTM) for part in model.modules())
    halved = device.type == "cuda" and recurrent
    if halved and asked == "bfloat16":
        raise RecipeError(
            'training.precision = "bfloat16" is float16 to recurrent layers on a GPU',
            "--set training.precision=float32",
        )
    if asked != "auto":
        return asked
    if halved:
        return "float32"
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def machine() -> str:
    """The hardware in a line."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    for line in described.read_text(encoding="utf-8").split("\n") if described.exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {torch.get_num_threads()} threads"
