"""What the README shows is so: its commands run, its options exist, its map is the real tree."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main

import mtkit
from mtkit.cli.app import app

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
INSTALL = "pip install -e . -c constraints.txt && mtkit quickstart"
CHECK = "pip install -e '.[dev]' -c constraints.txt && pytest"

# A reader's command trains for as long as is useful; here the same command is given a model and an
# end that take seconds, and, where it names a recipe instead of files, fewer sentences.
SMALL = """\
mtkit() {
  if [ "$1" = train ]; then
    case " $* " in
      *" --source "*) ;;
      *) set -- "$@" --set data.train=phrasebook:ko-en:train#size=600 \\
        --set data.valid=phrasebook:ko-en:valid#size=20 \\
        --set data.test=phrasebook:ko-en:test#size=20 ;;
    esac
    set -- "$@" --set training.updates=4 --set validation.every=2 --set data.held_out=20 \\
      --set tokenizer.vocabulary=1000 --set model.width=16 --set model.encoder_layers=1 \\
      --set model.decoder_layers=1
  fi
  command mtkit "$@"
}
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of the README."""

    language: str
    text: str
    runs: bool  # marked by `<!-- run -->`
    line: int


def _blocks() -> list[Block]:
    pattern = re.compile(r"^(<!-- run -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Block(found[2], found[3], bool(found[1]), README.count("\n", 0, found.start(3)) + 1)
        for found in pattern.finditer(README)
    ]


def _section(title: str) -> str:
    """The text under a heading, up to the next one of its rank."""
    parts = re.split(r"^## (.+)\n", README, flags=re.MULTILINE)
    return dict(pairwise(parts[1:]))[title]


def _commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `mtkit` command in shell text, also behind `python -m` or torchrun."""
    for line in text.replace("\\\n", " ").split("\n"):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = ""
        words: list[str] = []
        for word in [*lexer, "|"]:
            if word not in ("|", "||", "&&", ";", "&", "<", ">", ">>"):
                words.append(word)
                continue
            if words and (words[0] == "mtkit" or "-m mtkit" in " ".join(words)):
                yield words[words.index("mtkit") + 1 :]
            words = []


# -- what stands there ---------------------------------------------------------------------


def test_first_blocks_are_the_two_commands() -> None:
    assert [block.text for block in _blocks()[:2]] == [INSTALL + "\n", CHECK + "\n"]
    assert not any(block.runs for block in _blocks()[:2])


def test_ci_runs_the_second_command() -> None:
    script = REPOSITORY / ".ci" / "run"
    if not script.is_file():
        pytest.skip("a source archive has no .ci/run")
    assert CHECK in script.read_text(encoding="utf-8")


def test_map_is_the_real_tree() -> None:
    (block,) = re.findall(r"```text\n(.*?)```", _section("Map of the code"), re.DOTALL)
    folders: list[str] = []
    named = []
    for line in block.rstrip("\n").split("\n"):
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, meaning = line.strip().partition(" ")
        assert meaning.strip() or depth == 0, f"{name} is not explained"
        folders = [*folders[:depth], name.rstrip("/")]
        if name.endswith("/"):
            assert (REPOSITORY / "/".join(folders)).is_dir(), f"there is no {name}"
        # A folder's line stands for its __init__.py; that of the package has its own.
        if not name.endswith("/") or depth:
            named.append("/".join(folders) + ("/__init__.py" if name.endswith("/") else ""))
    real = [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "mtkit").rglob("*")
        if path.suffix in (".py", ".toml", ".cpp", ".h") and "_recipes" not in path.parts
    ]
    assert sorted(set(real) - set(named)) == [], "files that the map does not name"
    assert sorted(named) == sorted(real), "the map names what is not there, or names it twice"


def test_results_table_stands_between_its_marks() -> None:
    (table,) = re.findall(r"<!-- results -->\n(.*?)<!-- /results -->", README, re.DOTALL)
    rows = [line.split("|")[1:-1] for line in table.rstrip("\n").split("\n")]
    assert [cell.strip() for cell in rows[0]] == [
        "corpus",
        "system",
        "parameters",
        "BLEU (13a, cased, detokenised)",
        "lowercased",
        "chrF",
        "minutes, hardware",
        "recipe",
    ]
    assert {len(row) for row in rows} == {8}


def test_ladder_stands_whole_between_its_marks() -> None:
    """Nothing yet, or the eight claims with a verdict each, and the picture that is shipped."""
    (shown,) = re.findall(r"<!-- ladder -->\n(.*?)<!-- /ladder -->", README, re.DOTALL)
    rows = re.findall(
        r"^\| (\d)\. .*\*\*(reproduced|not reproduced|not decided here)\*\*", shown, re.M
    )
    assert [number for number, _ in rows] == list("12345678")
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", shown)
    assert (REPOSITORY / picture).stat().st_size < 150_000


def test_readme_names_no_path_of_one_machine() -> None:
    assert not re.search(r"/home/|/tmp/|/root/", README)


# -- what is shown exists ------------------------------------------------------------------


def _parse(arguments: Sequence[str], *, whole: bool) -> None:
    """Raise Typer's error unless the command line means something; nothing is carried out.

    Of a command that is only mentioned, not shown `whole`, the arguments may be missing.
    """
    command, name, rest = typer.main.get_command(app), "mtkit", list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command {name} {rest[0]}"
        name, command, rest = f"{name} {rest[0]}", command.commands[rest[0]], rest[1:]
    if whole:
        command.make_context(name, rest)
        return
    known = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"--help"}
    unknown = {word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word)} - known
    assert not unknown, f"{name} has no {unknown}"


def _shown() -> list[list[str]]:
    """Every command in the blocks for the shell."""
    return [
        arguments
        for block in _blocks()
        if block.language in ("sh", "console")
        for arguments in _commands(block.text)
    ]


def _mentioned() -> list[list[str]]:
    """Every command in a sentence."""
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README)
    return [arguments for span in spans for arguments in _commands(span)]


def test_commands_of_the_readme_parse() -> None:
    shown = _shown()
    assert len(shown) > 20
    for arguments in shown:
        try:
            _parse(arguments, whole=True)
        except typer.TyperException as error:
            pytest.fail(f"mtkit {shlex.join(arguments)}: {error.format_message()}")


def test_commands_in_sentences_exist() -> None:
    mentioned = _mentioned()
    assert mentioned
    for arguments in mentioned:
        _parse(arguments, whole=False)


def test_options_in_sentences_exist() -> None:
    """`--option` alone belongs to some command; the keys of `--set` belong to the recipe."""
    known: set[str] = {"--help"}

    def visit(command: object) -> None:
        for parameter in getattr(command, "params", ()):
            known.update(parameter.opts, parameter.secondary_opts)
        for inner in getattr(command, "commands", {}).values():
            visit(inner)

    visit(typer.main.get_command(app))
    alone = set(re.findall(r"`(--[a-z-]+)", README))
    assert alone
    assert alone <= known


def test_search_options_of_the_readme_are_all_there_are() -> None:
    table = README.partition("`--search KEY=VALUE`, as often as needed:")[2].partition("<!--")[0]
    named = set(re.findall(r"`(\w+)`", table)) - {"chrf", "bleu", "false"}
    assert named == {field.name for field in fields(mtkit.SearchOptions)}


def test_keys_of_the_readme_are_keys_of_the_recipe() -> None:
    keys = {knob.key for knob in mtkit.knobs()}
    sections = {key.rpartition(".")[0] for key in keys}
    sets = {word.partition("=")[0] for a in _shown() for f, word in pairwise(a) if f == "--set"}
    sets |= set(re.findall(r"`--set ([a-z_.]+)=[^`]", README)) - {"section.key"}
    assert sets
    assert sets <= keys
    prose = set(re.findall(r"`((?:data|tokenizer|model|training|validation|search)\.\w+)`", README))
    assert prose <= keys | sections
    explained = {a[2] for a in _shown() if a[:2] == ["recipe", "explain"] and len(a) > 2}
    presets = {path.stem for path in (REPOSITORY / "recipes" / "presets").glob("*.toml")}
    assert explained <= keys | sections | presets


def test_recipe_keys_of_the_model_table_are_accepted() -> None:
    rows = [line.split("|") for line in _section("The models").split("\n") if line.count("|") > 3]
    keys = {knob.key for knob in mtkit.knobs()}
    named = {key for row in rows[2:] for key in re.findall(r"`(\w+) = ", row[2])}
    assert {"kind", "memory", "reverse_source", "input_feeding", "norm", "positions"} <= named
    assert {f"model.{key}" for key in named} <= keys
    for row in rows[2:]:
        values = re.findall(r"`(\w+) = (\"?\w+\"?)`", row[2])
        kind = "transformer" if {"norm", "positions"} & {key for key, _ in values} else "recurrent"
        table = "\n".join(f"{key} = {value}" for key, value in values if key != "kind")
        mtkit.Recipe.parse(f'[model]\nkind = "{kind}"\n{table}')


def test_recipes_of_the_readme_are_shipped() -> None:
    named = set(re.findall(r"\b(?:phrasebook|multi30k|wmt14|opus100)-[a-z-]+", README))
    assert len(named) > 5
    assert named <= {path.stem for path in (REPOSITORY / "recipes").glob("*.toml")}


# -- what is marked runs -------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The shell of a reader whose virtual environment is this one."""
    scripts = Path(sys.executable).parent
    if shutil.which("mtkit", path=str(scripts)) is None:
        pytest.skip("mtkit is not installed here: pip install -e . -c constraints.txt")
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "MTKIT_CACHE": str(tmp_path_factory.mktemp("cache")),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder with a reader's files, in which the marked shell blocks have run, in order."""
    folder = tmp_path_factory.mktemp("reader")
    for name, corpus in (("my", "train#size=600"), ("test", "test#size=20")):
        pairs = list(mtkit.open_corpus(f"phrasebook:de-en:{corpus}"))
        for language, side in (("de", "source"), ("en", "target")):
            text = "".join(f"{getattr(pair, side)}\n" for pair in pairs)
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8")
    marked = [block for block in _blocks() if block.runs and block.language == "sh"]
    script = SMALL + "".join(f"echo '# line {b.line}' >&2\n{b.text}" for b in marked)
    _run(["bash", "-e", "-c", script], folder, environment)
    return folder


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.slow
def test_shell_blocks_leave_what_they_promise(folder: Path) -> None:
    def lines(name: str) -> list[str]:
        return list(mtkit.read_lines(folder / name))

    for name in ("test.out", "greedy.out", "test.jsonl", "test.pieces"):
        assert len(lines(name)) == len(lines("test.de")), name
    numbers = [line.split("\t")[0] for line in lines("test.nbest")]
    assert numbers == [str(n) for n in range(1, len(lines("test.de")) + 1) for _ in range(5)]
    for run in ("mine", "lstm", "mine-mean", "wide"):
        assert (folder / "runs" / run / "weights.safetensors").is_file()
    for name in ("reach.svg", "map.png", "report.html"):
        assert (folder / name).stat().st_size > 5000, name
    assert mtkit.Recipe.load(folder / "resolved.toml") == mtkit.Recipe.load(folder / "mine.toml")


@pytest.mark.slow
def test_python_blocks_run_in_order(folder: Path, environment: dict[str, str]) -> None:
    script = "".join(b.text for b in _blocks() if b.runs and b.language == "python")
    printed = _run([sys.executable, "-c", script], folder, environment)
    assert "update " in printed
    assert printed.count("nrefs:1") >= 6
    assert (folder / "runs" / "bag" / "weights.safetensors").is_file()
