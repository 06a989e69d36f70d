"""Draws phrases: who and what a clause speaks of."""

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

from .lexicon import Adjective, Noun, Place, Verb, lexicon
from .meaning import Clause, Phrase, Relative, Time
from .selection import selection

MINUTES = (0, 0, 0, 5, 10, 15, 20, 30)

T = TypeVar("T")


class PhraseSampler:
    """Choices from random numbers in [0, 1), and the phrases and times that they lead to."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.choices = selection()
        rules = lexicon().rules
        self.chances: dict[str, int] = rules["chances"]
        self.weights: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
            str(name): (tuple(map(str, table)), tuple(accumulate(table.values())))
            for name, table in rules["weights"].items()
        }
        self.plural_kinds = frozenset(rules["nouns"]["plural"])
        self.counter_max: int = rules["nouns"]["counter_max"]

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]

    def chance(self, name: str) -> bool:
        return self.random() * 100 < self.chances[name]

    def weighted(self, name: str) -> str:
        keys, sums = self.weights[name]
        return keys[bisect(sums, self.random() * sums[-1])]

    def _verb(self, budget: float) -> Verb:
        if budget < 3.5:
            return self.pick(self.choices.short_verbs)
        if budget < 6 and self.random() < 0.2:
            return self.pick(self.choices.short_verbs)
        return self.pick(self.choices.verbs)

    def _event(self, budget: float) -> Verb:
        while True:
            verb = self._verb(budget)
            if not verb.lasting:
                return verb

    def _place(self, verb: Verb) -> Place | None:
        places = self.choices.where[verb.id]
        return self.pick(places) if places else None

    def _time(self, tense: str) -> Time | None:
        days = self.choices.days[tense]
        if tense != "progressive" and tense != "present" and self.random() < 0.15:
            return self._clock(Time(None))
        day = self.pick(days)
        time = Time(day)
        return self._clock(time) if day.clock and self.chance("clock") else time

    def _clock(self, time: Time) -> Time:
        return time._replace(hour=1 + int(self.random() * 12), minute=self.pick(MINUTES))

    def _simple_subject(self, verb: Verb) -> Phrase:
        if self.chance("pronoun_subject"):
            return Phrase(None, self.weighted("pronoun"))
        return self._definite(self.pick(verb.subjects), subject=True)

    def _questioned(self, verb: Verb) -> Phrase:
        if verb.pronoun_subject and self.random() < 0.7:
            return Phrase(None, "you")
        return self._definite(self.pick(verb.subjects), subject=True)

    def _subject(self, verb: Verb, budget: float, *, calm: bool) -> tuple[Phrase, ...]:
        if budget < 5:
            pronoun = verb.pronoun_subject
            return (self._phrase(verb.subjects, budget, subject=True, pronoun=pronoun),)
        return self._phrases(verb.subjects, budget, subject=True, calm=calm)

    def _object(
        self,
        verb: Verb,
        budget: float,
        negated: bool,
        subject: tuple[Phrase, ...],
        *,
        command: bool = False,
    ) -> tuple[Phrase, ...]:
        if verb.pronoun_object and self.chance("pronoun_object") and budget < 4:
            taken = {p.determiner for p in subject} | ({"you", "we"} if command else set())
            taken |= (
                {"I": {"we"}, "we": {"I"}}.get(subject[0].determiner, set()) if subject else set()
            )
            free = [p for p in ("I", "you", "he", "she", "we") if p not in taken]
            # A third person who acts on "him" would be ambiguous between the two.
            return (Phrase(None, self.pick(free)),)
        nouns = verb.objects
        if any(phrase.noun in nouns for phrase in subject):
            named = [phrase.noun for phrase in subject]
            nouns = tuple(noun for noun in nouns if noun not in named)
        return self._phrases(
            nouns, budget, calm=negated, lists=command or not negated, relative=not verb.en_receiver
        )

    def _receiver(self, verb: Verb, subject: tuple[Phrase, ...]) -> Phrase:
        taken = [p.noun for p in subject]
        if self.chance("pronoun_object"):
            determiners = {p.determiner for p in subject}
            free = (
                ["I", "he", "she"]
                if "I" not in determiners and "we" not in determiners
                else ["he", "she"]
            )
            free = [p for p in free if p not in determiners]
            return Phrase(None, self.pick(free))
        nouns = tuple(n for n in verb.receivers if n not in taken)
        return self._definite(self.pick(nouns))

    def _phrases(
        self,
        nouns: tuple[Noun, ...],
        budget: float,
        *,
        subject: bool = False,
        calm: bool = False,
        lists: bool = True,
        relative: bool = True,
    ) -> tuple[Phrase, ...]:
        """One phrase, a list of them, or one with a relative clause, as the budget allows."""
        if budget >= 6 and relative and (self.chance("relative") or not lists):
            phrase = self._with_relative(nouns, budget, subject=subject, calm=calm)
            if phrase is not None:
                return (phrase,)
        if budget < 5 or not lists:
            return (self._phrase(nouns, budget, subject=subject, calm=calm),)
        count = max(2, min(7, len(nouns), int(budget / 3.2 + 0.5)))
        # A list of one kind if there are enough of it: apples and pears, not milk and printers.
        kind = self.pick(nouns).kind
        alike = tuple(noun for noun in nouns if noun.kind == kind)
        nouns = alike if len(alike) >= count else nouns
        chosen: list[Phrase] = []
        heads: set[str] = set()
        for _ in range(3 * count):
            noun = self.pick(nouns)
            if noun.id in heads or (calm and noun.mass and not noun.owned):
                continue
            heads.add(noun.id)
            room = budget / count - 1
            chosen.append(self._phrase((noun,), room, subject=subject, calm=calm))
            if len(chosen) == count:
                break
        return tuple(chosen) or (self._phrase(nouns, 2, subject=subject, calm=calm),)

    def _phrase(
        self,
        nouns: tuple[Noun, ...],
        budget: float,
        *,
        subject: bool = False,
        calm: bool = False,
        pronoun: bool = False,
        described: bool = False,
    ) -> Phrase:
        """A phrase without relative clause; a calm one is definite."""
        if pronoun and budget < 3.5 and self.chance("pronoun_subject"):
            return Phrase(None, self.weighted("pronoun"))
        noun = self.pick(nouns)
        adjective = budget >= 2.6 and not described and self.chance("adjective")
        definite = subject or calm or noun.mass or noun.owned or noun.kind == "name"
        if definite or not self.chance("indefinite_object"):
            return self._definite(noun, subject=subject, adjective=adjective)
        return self._indefinite(noun, adjective=adjective)

    def _definite(self, noun: Noun, *, subject: bool = False, adjective: bool = False) -> Phrase:
        if noun.kind == "name":
            return Phrase(noun, "proper")
        attribute = self._attribute(noun) if adjective else None
        if noun.mass and not noun.owned:
            bare = not subject or noun.kind == "language"
            return Phrase(noun, "bare" if bare else "the", adjective=attribute)
        determiner = self.weighted("definite")
        if noun.ownerless and determiner != "this":
            determiner = "the"
        while (noun.owned and determiner in ("the", "this")) or (
            subject and determiner in ("his", "her")
        ):
            determiner = self.weighted("definite")
        owner = self.pick(self.choices.names) if determiner == "name" else None
        plural = noun.kind in self.plural_kinds and self.random() < 0.25
        return Phrase(noun, determiner, 2 if plural else 1, attribute, owner)

    def _indefinite(self, noun: Noun, *, adjective: bool) -> Phrase:
        determiner = self.weighted("indefinite")
        count = 1
        if determiner == "number":
            # Small numbers are the common ones.
            count = 2 + int(self.random() ** 2 * (self.counter_max - 1))
        elif determiner == "few":
            count = 2
        return Phrase(noun, determiner, count, self._attribute(noun) if adjective else None)

    def _with_relative(
        self, nouns: tuple[Noun, ...], budget: float, *, subject: bool, calm: bool
    ) -> Phrase | None:
        """A phrase with a relative clause in which it is the subject or the object."""
        noun = self.pick(nouns)
        if noun.owned or noun.kind == "name":
            return None
        if subject or calm or noun.mass or self.random() < 0.6:
            head = Phrase(noun, "the")
        else:
            head = self._indefinite(noun, adjective=False)
        if budget > 8 and self.chance("adjective"):
            head = head._replace(adjective=self._attribute(noun))
        acting, suffering = self.choices.acting[noun.id], self.choices.suffering[noun.id]
        gap = "subject" if acting and (not suffering or self.random() < 0.5) else "object"
        verbs = acting if gap == "subject" else suffering
        if not verbs:
            return None
        verb = self.pick(verbs)
        bare = head._replace(adjective=None)
        tense = "present" if self.random() < 0.3 and not verb.invariant else "past"
        negated = self.random() < 0.1
        room = budget - 3
        if gap == "object":
            other = self._phrase(verb.subjects, min(room, 3), subject=True, pronoun=True)
            if other.noun is noun or (other.noun is None and not verb.pronoun_subject):
                return None
            clause = Clause("action", verb, (other,), (bare,), tense=tense, negated=negated)
            return head._replace(relative=Relative(clause, gap))
        object: tuple[Phrase, ...] = ()
        place = None
        if not verb.objects and verb.place != "never":
            place = self._place(verb)
        elif verb.objects:
            others = tuple(n for n in verb.objects if n is not noun)
            object = self._phrases(others, room - 1, calm=negated, lists=not negated)
        clause = Clause("action", verb, (bare,), object, tense=tense, negated=negated, place=place)
        return head._replace(relative=Relative(clause, gap))

    def _attribute(self, noun: Noun) -> Adjective | None:
        fitting = self.choices.attributes[noun.id]
        return self.pick(fitting) if fitting else None
