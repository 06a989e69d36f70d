"""Curves as pictures."""

from pathlib import Path

import pytest

from mtkit.errors import UsageError
from mtkit.training.picture import plot_curves

pytest.importorskip("matplotlib", reason="needs pip install -e .[plot]")
VALIDATIONS = [
    {"update": 10 * n, "loss": 5 / n, "scores": {"bleu": 3.0 * n, "chrf": 9.0 * n}}
    for n in range(1, 6)
]


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_picture_is_of_the_kind_that_its_name_says(
    tmp_path: Path, suffix: str, head: bytes
) -> None:
    path = tmp_path / f"curves{suffix}"
    plot_curves(VALIDATIONS, path, "a run")
    assert path.read_bytes().startswith(head)
    if suffix == ".svg":
        text = path.read_text(encoding="utf-8")
        assert all(f"<!-- {word} -->" in text for word in ("a run", "bleu", "chrf", "updates"))


def test_picture_of_nothing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a kind of picture"):
        plot_curves(VALIDATIONS, tmp_path / "curves.bmp")
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_curves([], tmp_path / "curves.png")
    with pytest.raises(UsageError, match="cannot be written"):
        plot_curves(VALIDATIONS, tmp_path / "nowhere" / "curves.png")
