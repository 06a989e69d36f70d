"""The recipes that come with mtkit: inside the wheel, or beside the package in a checkout."""

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from mtkit import RecipeError

if TYPE_CHECKING:
    from mtkit import Recipe

PRESETS = ("tiny", "small", "base")


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


def find(name: str) -> Path:
    """The recipe file that a path or the name of a shipped recipe means. Raises RecipeError."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "recipe.toml").is_file():
            return path / "recipe.toml"
        raise RecipeError(f"{name} is a folder without a recipe.toml", "see: mtkit recipe list")
    known = {file.stem: file for file in folder().glob("*.toml")}
    if path.name == name and path.name.removesuffix(".toml") in known:
        return known[path.name.removesuffix(".toml")]
    near = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "see: mtkit recipe list"
    raise RecipeError(f"{name}: no such recipe, neither a file nor a shipped one", hint)


def preset(name: str) -> dict[str, object]:
    """The tables of a preset: a size of model with the training that suits it."""
    path = folder() / "presets" / f"{name}.toml"
    if not path.is_file():
        raise RecipeError(f"there is no preset {name}", f"choose one of {', '.join(PRESETS)}")
    return tomllib.loads(path.read_text(encoding="utf-8"))


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


def complete_key(incomplete: str) -> list[str]:
    """Keys of the recipe, for the shell."""
    import mtkit

    keys = dict.fromkeys(knob.key for knob in mtkit.knobs())
    return [key for key in keys if key.startswith(incomplete)]
