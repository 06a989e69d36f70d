"""Charts as inline SVG that inherits the page's colours: lines and heat maps, drawn by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10
from unicodedata import east_asian_width

# Okabe and Ito's palette, told apart by colour-blind eyes; yellow, too faint on white, is last.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F",
)  # fmt: skip
WIDTH, HEIGHT = 680, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 230, 34, 44
_LINE = 14  # pixels between two labels
_LONGEST = 30  # characters of a label that have room; a longer one, a path, has its end
# Below 1e-12 of the first norm nothing is learned: what is there would only flatten the rest.
_FLOOR = 1e-12
_ALONE = """
.ground { fill: #fff; } text { font: 12px system-ui, sans-serif; fill: #1b1b1b; }
.name { font-weight: 600; } .grid { stroke: #d9d9d9; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #16181c; } text { fill: #e6e6e6; } .grid { stroke: #3a3d44; }
  polyline, circle, .name { filter: brightness(1.3); }
}
"""


@dataclass(frozen=True)
class Line:
    """A named curve; `spread` is half of each point's interval."""

    name: str
    points: tuple[tuple[float, float], ...]
    spread: tuple[float, ...] = ()
    dashed: bool = False


def lines_chart(
    curves: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    logarithmic: bool = False,
    ticks: Sequence[str] = (),
) -> str:
    """Curves with their names at their ends; `ticks` names the places 0, 1, 2 ... of x.

    On a logarithmic axis a value below 1e-12 is left out: the curve ends there.
    """
    drawn = [_finite(curve, logarithmic) for curve in curves]
    points = [point for curve in drawn for point in curve.points]
    if not points:
        return f"<p>{escape(y_label)}: nothing was measured.</p>"
    xs = [x for x, _ in points]
    low, high = _limits(drawn, logarithmic)
    left, right = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)

    def place(x: float, y: float) -> tuple[float, float]:
        y = log10(y) if logarithmic else y
        across = _LEFT + (x - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)
        return across, _TOP + (high - y) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    parts = [_y_axis(low, high, logarithmic), _x_axis(left, right, ticks)]
    ends = []
    for index, curve in enumerate(drawn):
        aside = 2 * (index - (len(drawn) - 1) / 2)  # so that no interval hides another
        colour = PALETTE[index % len(PALETTE)]
        spots = [place(x, y) for x, y in curve.points]
        if not spots:
            continue
        dash = ' stroke-dasharray="5 4"' if curve.dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        for (x, y), half, (across, _) in zip(curve.points, curve.spread, spots, strict=False):
            if isfinite(half) and not logarithmic:
                bottom, top = place(x, max(y - half, low))[1], place(x, y + half)[1]
                parts.append(
                    f'<line x1="{across + aside:.1f}" x2="{across + aside:.1f}" y1="{bottom:.1f}" '
                    f'y2="{top:.1f}" stroke="{colour}" stroke-opacity=".7"/>'
                )
        if len(spots) < 15:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots
            ]
        ends.append((spots[-1][1], curve.name, colour))
    parts += _names(ends)
    parts.append(
        f'<text x="{(WIDTH - _RIGHT + _LEFT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    parts.append(f'<text x="{_LEFT - 48}" y="14">{escape(y_label)}</text>')
    return _svg(WIDTH, HEIGHT, parts, y_label)


def alone(chart: str) -> str:
    """A chart as a file of its own, on a ground of its own: dark where the reader's screen is."""
    head, mark, rest = chart.partition(">")
    ground = '<rect width="100%" height="100%" class="ground"/>'
    return f"{head}{mark}<style>{_ALONE}</style>{ground}{rest}\n"


def heat_map(
    weights: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str]
) -> str:
    """Shares in [0, 1] as squares, the largest of all the darkest; rows and columns are named."""
    cell = 16
    largest = max((weight for row in weights for weight in row), default=0.0) or 1.0
    left = 12 + 8 * max(map(_cells, rows))
    top = 12 + 8 * max(map(_cells, columns))
    parts = []
    for j, name in enumerate(columns):
        x = left + j * cell + 11
        parts.append(
            f'<text transform="translate({x} {top - 5}) rotate(-90)">{escape(name)}</text>'
        )
    for i, (name, row) in enumerate(zip(rows, weights, strict=True)):
        y = top + i * cell
        parts.append(f'<text x="{left - 5}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        parts += [
            f'<rect x="{left + j * cell}" y="{y}" width="{cell}" height="{cell}" '
            f'fill="{PALETTE[0]}" fill-opacity="{max(w, 0.0) / largest:.3f}" class="cell"/>'
            for j, w in enumerate(row)
        ]
    return _svg(left + cell * len(columns) + 4, top + cell * len(rows) + 4, parts, "attention")


def _cells(text: str) -> int:
    """How wide a text is in Latin letters: characters of East Asia count twice."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _finite(curve: Line, logarithmic: bool) -> Line:
    spread = [*curve.spread, *[float("nan")] * (len(curve.points) - len(curve.spread))]
    kept = [
        (point, half)
        for point, half in zip(curve.points, spread, strict=True)
        if all(map(isfinite, point)) and (point[1] >= _FLOOR or not logarithmic)
    ]
    return Line(curve.name, tuple(p for p, _ in kept), tuple(h for _, h in kept), curve.dashed)


def _limits(curves: Sequence[Line], logarithmic: bool) -> tuple[float, float]:
    """The lowest and highest value of the axis, the upper ends of intervals included."""
    values = [y for curve in curves for _, y in curve.points]
    if logarithmic:
        low, high = float(floor(log10(min(values)))), log10(max(values))
        return low, max(high, low + 1)
    tops = [
        y + half
        for curve in curves
        for (_, y), half in zip(curve.points, curve.spread, strict=True)
        if isfinite(half)
    ]
    low, high = min(0.0, *values), max([*values, *tops])
    return low, (high + 0.04 * (high - low) if high > low else low + 1)


def _y_axis(low: float, high: float, logarithmic: bool) -> str:
    step = float(max(round((high - low) / 5), 1)) if logarithmic else _step(high - low)
    parts: list[str] = []
    value = low if logarithmic else floor(low / step) * step
    while value <= high + 1e-9:
        if value >= low - 1e-9:
            y = _TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM)
            name = f"1e{round(value)}" if logarithmic else f"{value:g}"
            parts.append(
                f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
            )
        value = round(value + step, 10)
    return "".join(parts)


def _x_axis(left: float, right: float, names: Sequence[str]) -> str:
    step = 1.0 if names else _step(right - left)
    parts, value = [], floor(left / step) * step
    while value <= right + 1e-9:
        if value >= left - 1e-9:
            x = _LEFT + (value - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)
            name = names[round(value)] if names else f"{value:g}"
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
        value = round(value + step, 10)
    return "".join(parts)


def _step(span: float) -> float:
    """A round step that cuts a span into about five."""
    rough = span / 5
    power = 10.0 ** floor(log10(rough))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)


def _names(ends: Sequence[tuple[float, str, str]]) -> list[str]:
    """The curves' names at their right ends, moved apart where they would overlap."""
    ordered = sorted(ends)
    places = [y for y, _, _ in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + _LINE)
    over = max(places[-1] - (HEIGHT - _BOTTOM), 0.0)
    for i in reversed(range(len(places))):
        room = places[i + 1] - _LINE if i + 1 < len(places) else places[i] - over
        places[i] = min(places[i], room)
    return [
        f'<text x="{WIDTH - _RIGHT + 8}" y="{y + 4:.1f}" style="fill: {colour}" class="name">'
        f"{escape(name if len(name) <= _LONGEST else f'…{name[1 - _LONGEST :]}')}</text>"
        for y, (_, name, colour) in zip(places, ordered, strict=True)
    ]


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
