"""Minimum Bayes risk: the candidate that is most like all others (Kumar and Byrne 2004).

With samples as candidates, as Eikema and Aziz 2020 advise, or with the n best of a search. The
candidates are the references too, each as often as it was found.
"""

from collections import Counter
from collections.abc import Callable, Sequence


def expected_utilities(
    candidates: Sequence[str], utility: Callable[[str, str], float]
) -> list[float]:
    """The mean utility of each candidate against all of them; (hypothesis, reference) -> number."""
    counts = Counter(candidates)
    means = {
        text: sum(count * utility(text, other) for other, count in counts.items()) / len(candidates)
        for text in counts
    }
    return [means[text] for text in candidates]


def by_utility(candidates: Sequence[str], utility: Callable[[str, str], float]) -> list[int]:
    """The indices of the candidates, the one of highest expected utility first, none twice.

    Of equals the one that stands first wins; of the same text only its first index is given.
    """
    means = expected_utilities(candidates, utility)
    firsts = {text: index for index, text in reversed(list(enumerate(candidates)))}
    return sorted(firsts.values(), key=lambda index: (-means[index], index))
