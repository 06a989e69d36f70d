"""Curves of characters: what a run was like, seen from a terminal."""

from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT = 60, 6


def curve(name: str, points: Sequence[tuple[int, float]], shown: str = ".1f") -> str:
    """Values over updates [(update, value)] as columns, the lowest value at the foot."""
    values = _columns([value for _, value in points], _WIDTH)
    low, high = min(values), max(values)
    span = high - low or 1.0
    eighths = [1 + round((value - low) / span * (8 * _HEIGHT - 1)) for value in values]
    sides = {0: format(high, shown), _HEIGHT - 1: format(low, shown)}
    margin = max(map(len, sides.values()))
    lines = [name]
    for line in range(_HEIGHT):
        foot = 8 * (_HEIGHT - 1 - line)
        drawn = "".join(_EIGHTHS[min(max(height - foot, 0), 8)] for height in eighths)
        lines.append(f"{sides.get(line, ''):>{margin}} │{drawn}".rstrip())
    first, last = f"{points[0][0]:,}", f"{points[-1][0]:,} updates"
    gap = max(len(values) - len(first) - len(last), 1)
    lines.append(f"{'':>{margin}}  {first}{' ' * gap}{last}")
    return "\n".join(lines)


def _columns(values: Sequence[float], most: int) -> list[float]:
    """At most so many values: the mean of each of as many equal spans."""
    count = min(len(values), most)
    spans = [
        values[len(values) * n // count : len(values) * (n + 1) // count] for n in range(count)
    ]
    return [sum(span) / len(span) for span in spans]
