"""The recipes that come with mtkit: inside the wheel, or beside the package in a checkout."""

import difflib
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtkit import RecipeError, UsageError

if TYPE_CHECKING:
    from mtkit import Recipe

# The sizes that are offered first; `presets` names those of papers too.
SIZES = ("tiny", "small", "base")
_SHEET = ".sheet.toml"


def folder() -> Path:
    """Where the shipped recipes lie. Raises RecipeError when this installation has none."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_recipes", package.parent / "recipes"):
        if place.is_dir():
            return place
    raise RecipeError("this installation holds no recipes", "install mtkit again")


def names() -> list[str]:
    """What `mtkit recipe list` shows, in order."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def find(name: str, *, or_preset: bool = False) -> Path:
    """The recipe file that a path or the name of a shipped recipe means. Raises RecipeError.

    With `or_preset` the name of a preset means its file.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "recipe.toml").is_file():
            return path / "recipe.toml"
        raise RecipeError(f"{name} is a folder without a recipe.toml", "see: mtkit recipe list")
    known = {file.stem: file for file in folder().glob("*.toml")}
    if or_preset and spelled(name) in presets():
        return folder() / "presets" / f"{spelled(name)}.toml"
    if path.name == name and path.name.removesuffix(".toml") in known:
        return known[path.name.removesuffix(".toml")]
    near = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "see: mtkit recipe list"
    raise RecipeError(f"{name}: no such recipe, neither a file nor a shipped one", hint)


def presets() -> list[str]:
    """The names of all presets, the sizes first."""
    files = (folder() / "presets").glob("*.toml")
    others = {path.stem for path in files if not path.name.endswith(_SHEET)} - set(SIZES)
    return [*SIZES, *sorted(others)]


def preset(name: str) -> dict[str, object]:
    """The tables of a preset: a model with the training that suits it. Raises UsageError.

    `NAME/small` is the small size of the preset NAME, as `NAME-small` is.
    """
    known = presets()
    name = spelled(name)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise UsageError(
            f"there is no preset {name}",
            f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}",
        )
    return tomllib.loads((folder() / "presets" / f"{name}.toml").read_text(encoding="utf-8"))


def spelled(name: str) -> str:
    """The name of a preset as its file has it: luong2015-small for luong2015/small."""
    return name.removesuffix("/small") + "-small" if name.endswith("/small") else name


def sheet(name: str) -> dict[str, Any] | None:
    """The fidelity sheet of a preset, or of the paper's size if `name` is its small one.

    Points that a sheet shares with the one it is `like` stand in that one alone.
    """
    name = spelled(name)
    places = [folder() / "presets" / f"{n}{_SHEET}" for n in (name, name.removesuffix("-small"))]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    if "like" in found:
        other = sheet(found["like"]) or {"points": []}
        own = {point["number"] for point in found["points"]}
        shared = [point for point in other["points"] if point["number"] not in own]
        found["points"] = sorted([*shared, *found["points"]], key=lambda point: point["number"])
    return found


def require_corpora(
    path: Path, recipe: "Recipe", changes: Sequence[str], named: Collection[str] = ()
) -> None:
    """See that the files which a shipped recipe names are at hand.

    Corpora that a call names otherwise, by `--set` in `changes` or by an option in `named`, are its
    own. Raises MissingFileError that says how to come by the files.
    """
    import mtkit

    if path.parent != folder():
        return
    changed = {change.partition("=")[0].removeprefix("data.") for change in changes}
    for key in ("train", "valid", "test"):
        corpora = [corpus for corpus in getattr(recipe.data, key) if not corpus.startswith("hf:")]
        if corpora and key not in changed.union(named):
            option = "--corpus" if key == "train" else f"--{key}"
            try:
                mtkit.open_corpora(corpora)
            except mtkit.MissingFileError as error:
                raise mtkit.MissingFileError(
                    error.message,
                    f"mtkit recipe show {path.stem} says where it comes from; "
                    f"mtkit train {option} names another",
                ) from None


def heading(path: Path) -> list[str]:
    """The comment lines at the head of a recipe file, without their marks."""
    found = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line.startswith("#"):
            break
        found.append(line.removeprefix("#").removeprefix(" "))
    return found


def title(recipe: "Recipe", path: Path) -> str:
    """What a recipe is, in a line."""
    return recipe.title or next(iter(heading(path)), "")


def complete(incomplete: str) -> list[str]:
    """Names of shipped recipes, for the shell."""
    return [name for name in names() if name.startswith(incomplete)]


def complete_preset(incomplete: str) -> list[str]:
    """Names of presets, for the shell."""
    return [name for name in presets() if name.startswith(incomplete)]


def complete_key(incomplete: str) -> list[str]:
    """Keys of the recipe, for the shell."""
    import mtkit

    keys = dict.fromkeys(knob.key for knob in mtkit.knobs())
    return [key for key in keys if key.startswith(incomplete)]


def complete_explained(incomplete: str) -> list[str]:
    """What `mtkit recipe explain` explains, for the shell."""
    papers = [name for name in presets() if sheet(name) is not None]
    return [*complete_key(incomplete), *(n for n in papers if n.startswith(incomplete))]
