"""How sure a figure is: 95 % intervals by bootstrap over sentences (Efron 1979), seeded."""

from collections.abc import Callable, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_RESAMPLES = 2000
_SEED = 12345


def of_mean(values: Sequence[float]) -> Interval:
    """Where the mean of such values lies; (nan, nan) of fewer than two."""
    return _bootstrap(values, lambda drawn: drawn.mean(1))


def of_median(values: Sequence[float]) -> Interval:
    """Where their median lies; (nan, nan) of fewer than two."""
    return _bootstrap(values, lambda drawn: np.median(drawn, axis=1))


def _bootstrap(
    values: Sequence[float], figure: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Interval:
    if len(values) < 2:
        return nan, nan
    given = np.asarray(values, dtype=np.float64)
    places = np.random.default_rng(_SEED).integers(len(given), size=(_RESAMPLES, len(given)))
    low, high = np.percentile(figure(given[places]), [2.5, 97.5])
    return float(low), float(high)
