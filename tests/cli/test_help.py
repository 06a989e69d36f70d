"""Help is cheap, complete and ends in examples; the flags are frozen."""

import json
import os
import pty
import re
import resource
import subprocess
import sys
from dataclasses import fields

import pytest
import typer.main

from mtkit.cli.app import app
from tests.cli.conftest import REPOSITORY, Call

FLAGS = {
    "quickstart": {"--source", "--target", "--device"},
    "train": {
        "--source", "--target", "--corpus", "--valid", "--test", "--preset", "--set", "--output",
        "-o", "--plan", "--verify-resume", "--device", "--json", "--quiet",
    },
    "translate": {
        "--output", "-o", "--scores", "--json", "--quiet", "--n-best", "--beam",
        "--length-penalty", "--max-length-ratio", "--device", "--precision", "--batch",
        "--tag", "--json-lines", "--search", "--with",
        "--workers", "--report", "--resume", "--compile",
    },
    "export": {"--output", "-o", "--to", "--precision", "--verify", "--json"},
    "selftest": {"--json"},
    "evaluate": {
        "--reference", "-r", "--lowercase", "--tokenize", "--target-language", "--output", "-o",
        "--json", "--beam", "--search", "--with", "--device", "--precision", "--workers",
        "--compile",
    },
    "analyze gradients": {"--corpus", "--most", "--plot", "--json"},
    "analyze length": {"--corpus", "--by", "--most", "--plot", "--json"},
    "analyze attention": {
        "--source", "--target", "--corpus", "--heads", "--plot", "--json",
    },
    "compare": {"--corpus", "--most", "--html", "--device", "--json"},
    "ladder": {
        "--output", "-o", "--minutes", "--updates", "--seeds", "--only", "--corpus", "--valid",
        "--device", "--json",
    },
    "score": {"--output", "-o", "--json", "--with", "--device"},
    "show": {"--json", "--plot"},
    "average": {"--output", "-o", "--last"},
    "recipe list": {"--json"},
    "recipe show": {"--resolved", "--set"},
    "recipe copy": set(),
    "recipe check": {"--set"},
    "recipe explain": {"--json"},
    "tokenizer train": {
        "--output", "-o", "--kind", "--vocabulary", "--no-bytes", "--coverage",
    },
    "tokenizer encode": {"--ids", "--target"},
    "tokenizer decode": {"--ids", "--target"},
}  # fmt: skip
HEAVY = ("torch", "pydantic", "sacrebleu", "datasets", "sentencepiece", "numpy", "safetensors")


def flags() -> dict[str, set[str]]:
    """Every command with the flags that it has."""
    found: dict[str, set[str]] = {}

    def visit(command: object, name: str) -> None:
        for key, inner in getattr(command, "commands", {}).items():
            visit(inner, f"{name} {key}".strip())
        if not hasattr(command, "commands"):
            parameters = getattr(command, "params", [])
            options = [p for p in parameters if p.param_type_name == "option"]
            found[name] = {flag for p in options for flag in (*p.opts, *p.secondary_opts)}

    visit(typer.main.get_command(app), "")
    return found


def test_flags_are_the_frozen_ones() -> None:
    assert flags() == FLAGS


def test_no_command_but_three_has_more_than_twelve_options() -> None:
    most = {"translate": 21, "train": 13, "evaluate": 13}
    assert {
        name: len([f for f in known if f.startswith("--")])
        for name, known in flags().items()
        if len([f for f in known if f.startswith("--")]) > most.get(name, 12)
    } == {}


@pytest.mark.parametrize("command", ["", "analyze", "recipe", "tokenizer", *FLAGS])
def test_help_ends_in_examples(call: Call, command: str) -> None:
    helped = call(*command.split(), "--help")
    assert helped.code == 0
    end = [line.strip() for line in helped.out.strip().split("\n")]
    examples = end[end.index("Examples:") + 1 :]
    assert len(examples) >= 2
    assert all(line.startswith(f"mtkit {command}".strip()) for line in examples)
    known = set(re.findall(r"(?<=\s)--[a-z-]+", " ".join(examples)))
    assert known <= {flag for flags in FLAGS.values() for flag in flags}


def test_help_names_every_search_option(call: Call) -> None:
    import mtkit

    helped = call("translate", "--help").out
    flags = FLAGS["translate"]
    for field in fields(mtkit.SearchOptions):
        assert f"--{field.name.replace('_', '-')}" in flags or field.name in helped


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, json; from mtkit.cli.app import run; code = run(sys.argv[1:]);"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )
    for arguments in (["--help"], ["train", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True, check=True, cwd=REPOSITORY,
        )  # fmt: skip
        code, modules = json.loads(done.stderr)
        assert code == 0
        # Typer reads parameters with pydantic itself, once there is a subcommand.
        allowed = {"pydantic"} if len(arguments) > 1 else set()
        assert [name for name in HEAVY if name in modules and name not in allowed] == []
        assert "mtkit.recipe" not in modules


def test_help_comes_at_once() -> None:
    """In seconds of a processor, so that nothing beside it counts."""
    took = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "mtkit", "--help"],
            check=True, capture_output=True, cwd=REPOSITORY,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # 0.2 s where this was written; with torch it would be 2 s.
    assert min(took) < 1.0


def seen_in_a_terminal(**variables: str) -> bytes:
    """What `mtkit --help` sends to a terminal."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mtkit", "--help"], stdout=theirs, stderr=theirs, cwd=REPOSITORY,
        env={**environment, "TERM": "xterm-256color", **variables},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return seen


def test_colour_is_for_terminals_that_want_it(call: Call) -> None:
    colour = re.compile(rb"\x1b\[[\d;]*3[0-7][\d;]*m")
    assert colour.search(seen_in_a_terminal())
    assert not colour.search(seen_in_a_terminal(NO_COLOR="1"))
    assert "\x1b" not in call("--help").out


def test_version_is_said(call: Call) -> None:
    import mtkit

    assert call("--version").out == f"mtkit {mtkit.__version__}\n"


def test_short_flag_shows_the_help_too(call: Call) -> None:
    for command in ([], ["translate"], ["recipe", "show"]):
        assert call(*command, "-h").out == call(*command, "--help").out


def test_no_command_shows_the_help(call: Call) -> None:
    assert call().out == call("--help").out
