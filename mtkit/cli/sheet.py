"""The fidelity sheet of a preset: what the paper says, what is set here, what differs and why."""

import textwrap
from typing import Any

from mtkit.cli import shipped
from mtkit.cli.output import json_line, write

_WIDTH = 98


def explain(name: str, sheet: dict[str, Any], as_json: bool) -> None:
    """Write the sheet of a preset, point by point; the settings are those of the preset itself."""
    import mtkit

    recipe = mtkit.Recipe.from_table(shipped.preset(name), f"preset {name}").model_dump(mode="json")
    if not as_json:
        write(f"{name}: {sheet['paper']}\n")
    for point in sheet["points"]:
        here = {key: value_of(recipe, key) for key in point.get("settings", {})}
        if as_json:
            write(json_line({"preset": name, **point, "settings": here}))
            continue
        where = point["where"]  # a section of the paper, or "code: a file of it"
        place = where if ":" in where else f"section {where}"
        write(f"\n{point['number']}. {point['paper']} ({place})\n")
        words = ", ".join(f"{key} = {_toml(value)}" for key, value in here.items())
        smaller = [key for key, value in here.items() if value != point["settings"][key]]
        differences = ", ".join(f"{key} is {_toml(point['settings'][key])}" for key in smaller)
        _line("here", words)
        _line("in the paper's size", differences)
        _line("deviation", point.get("deviation", "none"))
        _line("why", point.get("why", ""))


def value_of(recipe: dict[str, Any], key: str) -> Any:
    """The value of a dotted key in the tables of a recipe."""
    here: Any = recipe
    for part in key.split("."):
        here = here[part]
    return here


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _line(label: str, text: str) -> None:
    if text:
        words = textwrap.fill(
            f"{label}: {text}",
            _WIDTH,
            initial_indent="    ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        write(words + "\n")
