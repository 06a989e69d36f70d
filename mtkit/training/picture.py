"""The curves of a run as a picture (extra `plot`)."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mtkit.errors import UsageError

Validations = Sequence[Mapping[str, Any]]  # as `log.jsonl` has them


def plot_curves(validations: Validations, path: Path, title: str = "") -> None:
    """Draw loss and scores over updates into a picture, as its suffix says: .png, .svg, .pdf.

    Raises UsageError without matplotlib, without anything to draw, and for other suffixes.
    """
    if find_spec("matplotlib") is None:
        raise UsageError(
            "a picture needs matplotlib, which is not installed", "pip install 'mtkit[plot]'"
        )
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{path}: not a kind of picture that is drawn", "--plot curves.png")
    if not validations:
        raise UsageError(
            "there is nothing to draw: the run was not validated so far",
            "let it train to its first validation",
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    updates = [event["update"] for event in validations]
    below = figure.add_subplot()
    below.plot(updates, [event["loss"] for event in validations], "C3", label="loss")
    below.set_xlabel("updates")
    below.set_ylabel("loss (nats a token)")
    above = below.twinx()
    for number, name in enumerate(validations[-1]["scores"]):
        values = [event["scores"].get(name) for event in validations]
        above.plot(updates, values, f"C{number}", label=name)
    above.set_ylabel("score")
    figure.legend(loc="outside upper right", ncols=3)
    if title:
        figure.suptitle(title)
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror})", "name another file"
        ) from None
