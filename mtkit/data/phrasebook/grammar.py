"""Draws meanings: what can sensibly be said, as often as grammar.toml wishes."""

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

from .lexicon import Adjective, Noun, Place, Verb, lexicon
from .meaning import Clause, Phrase, Relative, Sentence, Time, Unit, content
from .selection import selection

T = TypeVar("T")
MINUTES = (0, 0, 0, 5, 10, 15, 20, 30)


class Sampler:
    """Sentences from a source of random numbers in [0, 1): the same numbers give the same sentences.

    Budgets are lengths in English words; what is drawn comes close to them, not exactly to them.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.choices = selection()
        rules = lexicon().rules
        self.chances: dict[str, int] = rules["chances"]
        self.weights = {
            name: (tuple(table), tuple(accumulate(table.values())))
            for name, table in rules["weights"].items()
        }
        self.plural_kinds = frozenset(rules["nouns"]["plural"])
        self.counter_max: int = rules["nouns"]["counter_max"]

    def sentence(self, budget: float) -> Sentence:
        """A sentence of about so many English words."""
        register = self.weighted("register")
        mood = self.weighted("mood")
        if register != "neutral":
            budget -= 1 if register == "familiar" else 3
        if mood in ("question", "wh") and (budget > 24 or register == "formal"):
            mood = "statement"
        if mood in ("command", "request"):
            units = self._units(budget, self._command_unit, mood)
        elif mood in ("question", "wh"):
            units = (Unit(self._question(budget, mood == "wh")),)
            mood = "question"
        else:
            units = self._units(budget, self._statement_unit, mood)
        vocative = self._addressee(units) if register == "familiar" else None
        return Sentence(units, mood, register, vocative)

    # -- units --

    def _units(
        self, budget: float, draw: Callable[[float, str], Unit], mood: str
    ) -> tuple[Unit, ...]:
        """As many units as the budget asks for: one up to about twelve words, then more."""
        fewest = max(1, int(budget / 22) + 1) if budget > 22 else 1
        most = max(fewest, int(budget / 7))
        count = fewest + int(self.random() * (most - fewest + 1))
        share = budget / count
        units = [draw(share, mood)]
        for _ in range(count - 1):
            joint = self.weighted("joint") if mood == "statement" else "and"
            unit = draw(share - 1, "command" if mood == "request" else mood)
            units.append(unit._replace(joint=joint))
        return tuple(units)

    def _statement_unit(self, budget: float, mood: str) -> Unit:
        if budget < 7 or not self.chance("subordinate"):
            return Unit(self._statement(budget))
        conjunction = self.weighted("subordinate")
        if conjunction == "that":
            verb = self.pick(self.choices.thoughts)
            main = Clause("action", verb, (self._simple_subject(verb),), tense=verb.tense)
            tense = "" if verb.tense == "present" else "past"
            return Unit(main, conjunction, self._statement(budget - 3, tense))
        first = 3 + self.random() * (budget - 7)
        if conjunction == "if" or (conjunction == "when" and self.random() < 0.5):
            sub = self._statement(first, "present", calm=True, people=True)
            tense = "present" if self.random() < 0.4 else "future"
        elif conjunction == "when":
            sub = self._statement(first, "past", calm=True, people=True)
            tense = "past"
        else:
            sub = self._statement(first, "present" if self.random() < 0.4 else "past", people=True)
            tense = sub.tense if self.random() < 0.8 else ""
        return Unit(self._statement(budget - 1 - first, tense, people=True), conjunction, sub)

    def _command_unit(self, budget: float, mood: str) -> Unit:
        if budget < 8 or not self.chance("subordinate"):
            return Unit(self._command(budget, mood))
        first = 3 + self.random() * min(6, budget - 7)
        sub = self._statement(first, "present", calm=True, people=True)
        conjunction = "if" if self.random() < 0.6 else "when"
        return Unit(self._command(budget - 1 - first, mood), conjunction, sub)

    # -- clauses --

    def _statement(
        self, budget: float, tense: str = "", *, calm: bool = False, people: bool = False
    ) -> Clause:
        """A clause that states something, if wished about people or the weather.

        A calm one has neither modal nor fronted time.
        """
        kind = self.weighted("clause")
        if people and kind not in ("action", "quality", "weather", "profession"):
            kind = "quality"
        if budget < 4 and kind in ("comparison", "existence", "location", "age"):
            kind = "action"
        if kind == "weather" and budget > 6:
            kind = "action"
        if kind == "action":
            return self._action(budget, tense, calm=calm)
        tense = tense or ("past" if self.random() < 0.45 else "present")
        return self._state(kind, budget, tense, people)

    def _state(self, kind: str, budget: float, tense: str, people: bool) -> Clause:
        negated = self.chance("negated")
        match kind:
            case "weather":
                weather = self.pick(self.choices.weather)
                return Clause(kind, weather, tense=tense, negated=negated)
            case "existence":
                return self._existence(budget, tense)
            case "location":
                return self._location(budget, "past" if tense == "future" else tense, negated)
        if kind in ("profession", "age"):
            tense = "present" if tense == "future" else tense
            subject = self._phrase(
                (self.choices.living if kind == "age" else self.choices.people),
                budget - 3,
                subject=True,
                single=True,
            )
            if subject.noun is None and kind == "age":
                subject = Phrase(None, "he" if self.random() < 0.5 else "she")
            if kind == "age":
                number = 2 + int(self.random() * (self.counter_max - 1))
                return Clause(kind, subject=(subject,), tense=tense, negated=negated, number=number)
            job = Phrase(self.pick(self.choices.professions), "bare")
            return Clause(kind, None, (subject,), (job,), tense=tense, negated=negated)
        adjective = self.pick(self.choices.moods if people else self.choices.predicative)
        nouns = self.choices.people if people else self.choices.described[adjective.id]
        human = "friend" in adjective.nouns
        if kind == "comparison" and tense == "future":
            tense = "present"
        room = budget - 3 - (3 if kind == "comparison" else 0)
        subject = self._phrase(nouns, room, subject=True, pronoun=human, described=True)
        object: tuple[Phrase, ...] = ()
        if kind == "comparison":
            other = self._phrase(nouns, 2, subject=True, single=True)
            if other.noun is None or other.noun is subject.noun:
                kind = "quality"
            else:
                object = (other,)
        return Clause(
            kind, None, (subject,), object, tense=tense, negated=negated, adjective=adjective
        )

    def _existence(self, budget: float, tense: str) -> Clause:
        noun = self.pick(self.choices.standing)
        subject = self._indefinite(noun, adjective=budget > 8 and self.chance("adjective"))
        return Clause(
            "existence",
            subject=(subject,),
            tense="past" if tense == "past" else "present",
            place=self.pick(self.choices.spots),
        )

    def _location(self, budget: float, tense: str, negated: bool) -> Clause:
        standing = self.random() < 0.5
        nouns = self.choices.standing if standing else self.choices.people
        subject = self._phrase(nouns, budget - 4, subject=True, single=True, pronoun=not standing)
        place = self.pick(self.choices.spots if standing else self.choices.near)
        return Clause("location", subject=(subject,), tense=tense, negated=negated, place=place)

    def _action(
        self,
        budget: float,
        tense: str = "",
        *,
        calm: bool = False,
        verb: Verb | None = None,
        question: bool = False,
    ) -> Clause:
        verb = verb or self._verb(budget)
        tense = tense or self.weighted("tense")
        if tense == "progressive" and verb.stative:
            tense = "present"
        modal = "" if calm or verb.stative or budget < 4 else self.weighted("modal")
        if tense not in ("present", "past"):
            modal = ""
        negated = modal != "must" and self.chance("negated")
        room = budget - 1 - (2 if modal in ("must", "want") else 1 if modal else 0)
        room -= 2 * bool(verb.subjects) + 2 * bool(verb.objects) + 2 * bool(verb.receivers)
        time = place = None
        if verb.place == "city" or verb.goal:
            place = self._place(verb)
            room -= 3
        if room >= 1 and not calm and self.random() < 0.4:
            time = self._time(tense)
            room -= 2 if time is not None else 0
        if place is None and verb.place != "never" and room >= 3 and self.random() < 0.4:
            place = self._place(verb)
            room -= 3
        first = room * self.random() if verb.objects else room
        if question:
            subject: tuple[Phrase, ...] = (self._questioned(verb),)
        else:
            subject = self._subject(verb, first + 2, calm=negated)
        object = self._object(verb, room - first + 2, negated, subject) if verb.objects else ()
        fronted = time is not None and not question and self.chance("fronted_time")
        if object and object[0].relative is not None:
            # Otherwise the place or time could belong to the relative clause.
            place = None if not verb.goal else place
            fronted = time is not None and not question
            time = time if fronted else None
        if any(p.relative is not None for p in subject) and fronted:
            fronted = False
        receiver = (self._receiver(verb, subject),) if verb.receivers else ()
        return Clause(
            "action", verb, subject, object, receiver, tense, modal, negated, place, time, fronted
        )

    def _command(self, budget: float, mood: str) -> Clause:
        positive = self.chance("positive_command")
        while True:
            verb = self._verb(budget + 2)
            if verb.commands is False or (verb.commands == "negative" and positive):
                continue
            # 주세요 is both the command and the request of 주다: only the request is said.
            if mood == "command" and verb.ko.endswith("주다"):
                continue
            break
        room = budget - 1 - (0 if positive else 1) - 2 * bool(verb.receivers)
        place = self._place(verb) if verb.goal else None
        object = self._object(verb, room, not positive, (), command=True) if verb.objects else ()
        if place is None and room > 3 and not verb.objects and verb.place != "never":
            place = self._place(verb)
        receiver = (self._receiver(verb, ()),) if verb.receivers else ()
        return Clause("action", verb, (), object, receiver, negated=not positive, place=place)

    def _question(self, budget: float, wh: bool) -> Clause:
        while True:
            tense = "past" if self.random() < 0.6 else self.weighted("tense")
            clause = self._action(budget - 1, tense, calm=True, question=True)
            if not wh:
                return clause
            asked = self._ask(clause)
            if asked is not None:
                return asked

    def _ask(self, clause: Clause) -> Clause | None:
        """The clause with a question word in the place of one part, if it has such a part."""
        verb = clause.verb
        assert verb is not None
        wh = self.pick(("subject", "object", "place", "time", "reason", "number"))
        clause = clause._replace(wh=wh, negated=False)
        plain = not any(p.relative for p in clause.object)
        match wh:
            case "subject" if verb.pronoun_subject and verb.ask:
                return clause._replace(subject=())
            case "object" if verb.objects and verb.ask and plain:
                return clause._replace(object=())
            case "number" if verb.objects and verb.ask and not verb.receivers:
                noun = self.pick(verb.objects)
                if noun.mass or noun.owned or noun.kind == "name":
                    return None
                return clause._replace(object=(Phrase(noun, "number", 2),))
            case "place" if verb.place != "never" and plain and (verb.goal or not clause.place):
                return clause._replace(place=None)
            case "time" if clause.tense in ("past", "future") and not verb.stative:
                return clause
            case "reason":
                return clause
        return None

    # -- parts --

    def _verb(self, budget: float) -> Verb:
        if budget < 3.5:
            return self.pick(self.choices.short_verbs)
        if budget < 6 and self.random() < 0.2:
            return self.pick(self.choices.short_verbs)
        return self.pick(self.choices.verbs)

    def _place(self, verb: Verb) -> Place:
        if verb.place == "city":
            return self.pick(self.choices.cities)
        if verb.place == "near" or not verb.goal:
            return self.pick(self.choices.near)
        return self.pick(self.choices.places)

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
        nouns = tuple(n for n in verb.objects if all(n is not p.noun for p in subject))
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

    # -- phrases --

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
        chosen: list[Phrase] = []
        heads: set[str] = set()
        for _ in range(3 * count):
            noun = self.pick(nouns)
            if noun.id in heads or (calm and noun.mass and not noun.owned):
                continue
            heads.add(noun.id)
            room = budget / count - 1
            chosen.append(self._phrase((noun,), room, subject=subject, calm=calm, single=True))
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
        single: bool = False,
        pronoun: bool = False,
        described: bool = False,
    ) -> Phrase:
        """A phrase without relative clause; a calm one is definite, a described one bears no adjective."""
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
            count = 2 + int(self.random() * (self.counter_max - 1))
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
        tense = "present" if self.random() < 0.3 else "past"
        negated = self.random() < 0.1
        room = budget - 3
        if gap == "object":
            other = self._phrase(
                verb.subjects, min(room, 3), subject=True, single=True, pronoun=True
            )
            if other.noun is noun or (other.noun is None and not verb.pronoun_subject):
                return None
            clause = Clause("action", verb, (other,), (bare,), tense=tense, negated=negated)
            return head._replace(relative=Relative(clause, gap))
        object: tuple[Phrase, ...] = ()
        place = None
        if verb.goal or verb.place == "city" or (not verb.objects and verb.place != "never"):
            place = self._place(verb)
        elif verb.objects:
            others = tuple(n for n in verb.objects if n is not noun)
            object = self._phrases(others, room - 1, calm=negated, lists=not negated)
        clause = Clause("action", verb, (bare,), object, tense=tense, negated=negated, place=place)
        return head._replace(relative=Relative(clause, gap))

    def _attribute(self, noun: Noun) -> Adjective | None:
        fitting = self.choices.attributes[noun.id]
        return self.pick(fitting) if fitting else None

    def _addressee(self, units: tuple[Unit, ...]) -> Noun:
        """Somebody who is not spoken about."""
        mentioned = content(Sentence(units)).split()
        names = [n for n in self.choices.names if n.id not in mentioned]
        return self.pick(names or self.choices.names)

    # -- choices --

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]

    def chance(self, name: str) -> bool:
        return self.random() * 100 < self.chances[name]

    def weighted(self, name: str) -> str:
        keys, sums = self.weights[name]
        return keys[bisect(sums, self.random() * sums[-1])]
