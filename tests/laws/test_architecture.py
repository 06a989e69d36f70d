"""The architecture as laws: who imports whom, what has one home, and what importing costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

import mtkit

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mtkit"
FILES = sorted(PACKAGE.rglob("*.py"))

# Where alone an outside library may be imported.
HOMES = {
    "typer": "cli/",
    "rich": "cli/",
    "sacrebleu": "metrics.py",
    "sentencepiece": "data/",
    "torch.distributed": ("training/distributed.py", "training/sharding.py"),
    "tensorboard": "training/",
    "torch.utils.tensorboard": "training/board.py",
    "matplotlib": ("training/picture.py", "analysis/pictures.py"),
    "datasets": "data/",
    "ctranslate2": "decoding/export.py",
    "pydantic": "recipe.py",
    "tomli_w": "recipe.py",
}
# What would run code that a file holds, or fetch what nobody asked for; and Typer's inner parts.
BANNED = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "click", "typer.main"}
BANNED_NAMES = {"torch.load", "torch.save", "numpy.load", "np.load", "eval", "exec"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth of it; `from a import b` is a and a.b."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parent.relative_to(ROOT).parts
            package = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def test_architecture_has_files_to_check() -> None:
    assert len(FILES) > 20
    assert "torch" in set(imports(PACKAGE / "models" / "transformer.py"))
    grammar = PACKAGE / "data" / "phrasebook" / "__init__.py"
    assert any(inside(name, "mtkit.data.phrasebook.grammar") for name in imports(grammar))


def test_imports_keep_the_contracts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    linter = pytest.importorskip("importlinter.cli", reason="needs pip install -e .[dev]")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))  # which the linter puts the checkout on
    status = linter.lint_imports(config_filename="pyproject.toml", no_cache=True)
    report = capsys.readouterr().out
    assert status == 0, report


@pytest.mark.parametrize(("module", "home"), HOMES.items())
def test_imports_of_a_library_have_one_home(module: str, home: str | tuple[str, ...]) -> None:
    strangers = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(inside(name, module) for name in imports(path))
        and not str(path.relative_to(PACKAGE)).startswith(home)
    ]
    assert not strangers


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_code_runs_nothing_that_a_file_holds(path: Path) -> None:
    banned = {name for name in imports(path) if any(inside(name, bad) for bad in BANNED)}
    banned |= set(imports(path)) & BANNED_NAMES
    used = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
    assert not banned | (used & BANNED_NAMES)


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "cli").rglob("*.py")), ids=lambda path: str(path.name)
)
def test_cli_imports_exported_names_alone(path: Path) -> None:
    for name in imports(path):
        top = name.partition(".")[0]
        if top == "mtkit":
            exported = name.removeprefix("mtkit.") in mtkit.__all__
            assert name == "mtkit" or exported or inside(name, "mtkit.cli"), name
        else:
            assert top in {"typer", "rich"} or top in sys.stdlib_module_names, name


def test_cli_is_imported_by_its_entry_alone() -> None:
    importers = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(inside(name, "mtkit.cli") for name in imports(path))
    }
    assert {path for path in importers if not path.startswith("cli/")} == {"__main__.py"}


def for_type_checkers() -> dict[str, str]:
    """The names that mtkit/__init__.py shows to type checkers, and their modules."""
    shown: dict[str, str] = {}
    for node in ast.walk(tree(PACKAGE / "__init__.py")):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mtkit."):
            for alias in node.names:
                assert alias.asname == alias.name, "only `as` makes a name public to type checkers"
                shown[alias.name] = str(node.module)
    return shown


def test_public_names_are_the_same_at_run_time_and_for_type_checkers() -> None:
    assert for_type_checkers() == mtkit._HOME
    assert set(mtkit.__all__) == {*mtkit._HOME, "__version__"}
    assert len(set(mtkit.__all__)) == len(mtkit.__all__)
    assert dir(mtkit) == sorted(mtkit.__all__)


@pytest.mark.parametrize("name", mtkit.__all__)
def test_public_names_load(name: str) -> None:
    value = getattr(mtkit, name)
    assert value is not None
    if name != "__version__" and hasattr(value, "__module__") and isinstance(value, type):
        assert value.__module__ == mtkit._HOME[name], "a name is loaded from where it is made"


def test_public_names_have_a_docstring() -> None:
    bare = [
        name
        for name in mtkit.__all__
        if isinstance(getattr(mtkit, name), type | FunctionType)
        and not getattr(mtkit, name).__doc__
    ]
    assert not bare


def test_unknown_names_are_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mtkit' has no attribute 'translate'"):
        getattr(mtkit, "translate")  # noqa: B009 (what a type checker would not let through)


def test_every_module_can_be_imported_by_itself() -> None:
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            import_module(".".join(parts).removesuffix(".__init__"))


def test_import_mtkit_loads_nothing_heavy() -> None:
    code = (
        "import sys, mtkit, mtkit.errors, mtkit.symbols\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(result.stdout.split())
    assert "mtkit" in loaded
    heavy = {"torch", "numpy", "pydantic", "datasets", "pyarrow", "sacrebleu", "typer", "rich"}
    assert not loaded & heavy
