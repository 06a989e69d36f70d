"""The same curves and maps as files, PNG or SVG, by matplotlib (the extra `plot`)."""

from collections.abc import Sequence
from pathlib import Path

from mtkit.analysis.attention import Map
from mtkit.analysis.charts import PALETTE, Line
from mtkit.errors import UsageError

_FORMATS = (".png", ".svg", ".pdf")


def save_lines(
    path: Path, curves: Sequence[Line], x_label: str, y_label: str, *, logarithmic: bool = False
) -> None:
    """Draw curves with their names at their ends. Raises UsageError for a name of another kind."""
    figure, axes = _figure(path, (8.0, 4.5))
    for index, curve in enumerate(curves):
        xs, ys = zip(*curve.points, strict=True)
        colour = PALETTE[index % len(PALETTE)]
        axes.plot(xs, ys, color=colour, linestyle="--" if curve.dashed else "-")
        axes.annotate(
            curve.name, (xs[-1], ys[-1]), (6, 0), textcoords="offset points", color=colour,
            va="center",
        )  # fmt: skip
    if logarithmic:
        axes.set_yscale("log")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", dpi=150)


def save_map(path: Path, drawn: Map, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw one alignment map. Raises UsageError for a name of another kind."""
    figure, axes = _figure(path, (2 + 0.3 * len(columns), 1.5 + 0.3 * len(rows)))
    axes.imshow(drawn.weights, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(f"{drawn.name}, entropy {drawn.entropy:.2f} bits")
    figure.savefig(path, bbox_inches="tight", dpi=150)


def _figure(path: Path, size: tuple[float, float]):  # type: ignore[no-untyped-def]
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"{path}: a picture ends in {', '.join(_FORMATS)}", "--plot map.png")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "pictures need matplotlib, which is not installed", "pip install 'mtkit[plot]'"
        ) from None
    figure = Figure(figsize=size)
    return figure, figure.subplots()
