"""The `mtkit` command: every subcommand, and the one place where errors become sentences."""

import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from mtkit import MTKitError, UsageError, __version__
from mtkit.cli import (
    analyze,
    average,
    compare,
    evaluate,
    export,
    ladder,
    quickstart,
    recipe,
    score,
    selftest,
    show,
    tokenizer,
    train,
    translate,
)
from mtkit.cli.options import split_by_the_shell
from mtkit.cli.output import PIPE_CLOSED, examples, keep_streams, say, silence

_FAILED, _MISTAKEN, _INTERRUPTED = 1, 2, 130
_TRACEBACK = "--traceback"
_OUTPUT = ("-o", "--output")
_NO_MEMORY = re.compile("out of memory|can't allocate memory")  # as PyTorch says it
_LESS_MEMORY = {  # what takes less, by command
    "train": "take smaller batches: --set training.max_tokens=1024, or less",
    "translate": "try a smaller --batch or --beam, or fewer --workers",
    "evaluate": "try a smaller --beam, or fewer --workers",
}
_ON_A_DEVICE = ("score", "compare", "ladder", "quickstart")  # and no other way to take less

app = typer.Typer(
    name="mtkit",
    help="Neural machine translation: from RNN to Transformer, trained, decoded and scored.",
    epilog=examples("mtkit quickstart", "mtkit train --source a.de --target a.en -o runs/de-en"),
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _command in (
    quickstart,
    train,
    translate,
    evaluate,
    score,
    show,
    average,
    compare,
    ladder,
    export,
    selftest,
):
    _command.add_to(app)
app.add_typer(analyze.app, name="analyze")
app.add_typer(recipe.app, name="recipe")
app.add_typer(tokenizer.app, name="tokenizer")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mtkit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_print_version,
            is_eager=True,
            help="Say which version this is.",
        ),
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            _TRACEBACK, metavar="", help="Show where an error came from (anywhere in the line)."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line of this process and exit."""
    keep_streams()
    # As a shell would report it, but after files that were not finished have been removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Carry out one command; the exit code is 2 for the user's mistakes and 1 for failures."""
    try:
        return _carried_out(arguments)
    except BrokenPipeError:  # the talk's: 2>&1 | head
        silence(sys.stderr)
        return PIPE_CLOSED
    except SystemExit as ending:
        if ending.code != _FAILED:
            raise
        return PIPE_CLOSED  # as Rich ends when nobody reads its help


def _carried_out(arguments: Sequence[str]) -> int:
    ours = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    with_traceback = _TRACEBACK in ours
    left = [part for part in ours if part != _TRACEBACK] + list(arguments[len(ours) :])
    try:
        _refuse_nothing(ours)
        code = app(left, prog_name="mtkit", standalone_mode=False)
    except MTKitError as error:
        return _report(error.message, error.hint, error.exit_code, with_traceback)
    except typer.TyperException as error:
        sentence, hint = _reworded(error, ours)
        return _report(sentence, hint, error.exit_code, with_traceback)
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        if (path := error.filename2 or error.filename) is None:
            return _unexpected(error, left, with_traceback)
        hint = "name another file, or look at its folder and its rights"
        return _report(f"{path} cannot be used ({error.strerror})", hint, _MISTAKEN, with_traceback)
    except Exception as error:  # noqa: BLE001  the boundary: nothing may end in a raw traceback
        return _unexpected(error, left, with_traceback)
    return code if isinstance(code, int) else 0


def _refuse_nothing(arguments: Sequence[str]) -> None:
    """Raise UsageError for `-o ""`, which a path would take for the folder we are in."""
    for flag, name in zip(("", *arguments), (*arguments, ""), strict=True):
        if (flag in _OUTPUT and not name) or name == "--output=":
            raise UsageError(
                "--output names nothing", 'is the variable of -o "$VARIABLE" set? write: -o NAME'
            )


def _unexpected(error: Exception, arguments: Sequence[str], with_traceback: bool) -> int:
    sentence = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, MemoryError) or _NO_MEMORY.search(sentence):
        hint = _less_memory("".join(arguments[:1]), on_gpu="CUDA" in sentence)
        return _report("memory ran out", hint, _FAILED, with_traceback)
    hint = f"run the command again with {_TRACEBACK} to see where"
    return _report(f"unexpected {sentence}", hint, _FAILED, with_traceback)


def _less_memory(command: str, *, on_gpu: bool) -> str:
    if on_gpu and command in _ON_A_DEVICE:
        return "compute on the CPU: --device cpu"
    return _LESS_MEMORY.get(command, "close other programs, or use a machine with more memory")


def _reworded(error: typer.TyperException, arguments: Sequence[str]) -> tuple[str, str]:
    """Typer's own message as our sentence, and what to do about it."""
    said = error.format_message().replace("Value error, ", "")  # the name of an exception
    sentence, _, guess = said.partition(". Did you mean ")
    if not guess:
        sentence, _, guess = sentence.partition(" Did you mean: ")
    sentence = sentence.rstrip(". ") or "the command is not complete"
    unexpected = list(arguments[:1]) == ["train"] and "extra argument" in sentence
    split = split_by_the_shell(arguments) if unexpected else None
    if guess:
        hint = f"did you mean {guess.rstrip('?')}?"
    elif split:
        hint = f"in quotes it stays whole: '{split}'"
    else:
        words = [word for word in arguments[:2] if word.isalpha()]
        groups = {"analyze", "recipe", "tokenizer"}
        known = words[: 2 if words and words[0] in groups else 1]
        if sentence.lower().startswith("no such command"):
            known = known[:-1]
        hint = "see: " + " ".join(["mtkit", *known, "--help"])
    return sentence[0].lower() + sentence[1:], hint


def _report(sentence: str, hint: str | None, code: int, with_traceback: bool) -> int:
    if with_traceback:
        traceback.print_exc()
    rank = os.environ.get("RANK", "0")
    if rank != "0":  # one of several under torchrun; the first says the same, with the hint
        say(f"process {rank}: {sentence}")
        return code
    say(f"error: {sentence}")
    if hint:
        say(f"hint:  {hint}")
    return code
