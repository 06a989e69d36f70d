"""The C++ functions under models/kernels, compiled for this CPU when they are first asked for.

They are kept in the cache folder under a name that holds what they were made from: sources, flags,
compiler and CPU. The compiler is $CXX, else c++, g++ or clang++; nothing but it is needed.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from torch import Tensor

from mtkit.cache_folder import cache_folder

_SOURCES = sorted(Path(__file__).parent.glob("kernels/*.[ch]*"))
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-Wno-psabi")
_SECONDS = 300
# Lines that tell of a CPU what it can do, of x86 and of ARM.
_CPU = ("flags", "model name", "Features", "CPU implementer", "CPU part")


class NotCompiledError(Exception):
    """Why there is no compiled function for a model or a machine, in one clause."""


@cache
def kernels() -> ctypes.CDLL:
    """The compiled functions. Raises NotCompiledError where they cannot be had."""
    compiler = _compiler()
    library = cache_folder() / "kernels" / f"{_fingerprint(compiler)}.so"
    try:
        if not library.exists():
            _compile(compiler, library)
        elif library.stat().st_uid not in (os.getuid(), 0):
            raise NotCompiledError(f"{library} was made by another user (export MTKIT_CACHE=...)")
        loaded = ctypes.CDLL(str(library))
    except OSError as error:
        raise NotCompiledError(f"{library} cannot be made or loaded ({error})") from None
    for name in ("encode", "step", "follow", "product", "advance"):
        getattr(loaded, name).restype = None
    return loaded


def numbers_and_addresses(numbers: str, addresses: str) -> list[tuple[str, type]]:
    """Fields of a record by their names: whole numbers, then addresses."""
    return [
        *((name, ctypes.c_int64) for name in numbers.split()),
        *((name, ctypes.c_void_p) for name in addresses.split()),
    ]


def addresses(tensors: Iterable[Tensor]) -> tuple[int, ...]:
    """Of the tensors' numbers; whoever asks keeps the tensors."""
    return tuple(tensor.data_ptr() for tensor in tensors)


def _compiler() -> str:
    named = os.environ.get("CXX")
    for name in [named] if named else ["c++", "g++", "clang++"]:
        if found := shutil.which(name):
            return found
    what = f"CXX = {named} is not there" if named else "there is no c++, g++ or clang++ here"
    raise NotCompiledError(f"{what} (apt install g++, for example)")


def _fingerprint(compiler: str) -> str:
    made = Path(compiler).resolve()
    parts = [platform.machine(), str(made), str(made.stat().st_mtime_ns), *_FLAGS]
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        lines = cpu.read_text(encoding="utf-8", errors="replace").splitlines()
        parts += sorted({line for line in lines if line.startswith(_CPU)})
    parts += [path.read_text(encoding="utf-8") for path in _SOURCES]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _compile(compiler: str, library: Path) -> None:
    """Compile beside the place, then rename: another process may be doing the same."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".") as aside:
        made = Path(aside, library.name)
        sources = [str(path) for path in _SOURCES if path.suffix == ".cpp"]
        command = [compiler, *_FLAGS, "-o", str(made), *sources]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotCompiledError(f"{compiler} needs more than {_SECONDS} seconds") from None
        if done.returncode:
            told = [line for line in done.stderr.splitlines() if "error" in line]
            raise NotCompiledError(f"{compiler} refuses: {(told or ['it says nothing'])[0]}")
        made.replace(library)
