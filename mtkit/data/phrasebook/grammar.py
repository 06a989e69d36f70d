"""Draws meanings: what can sensibly be said, as often as grammar.toml wishes."""

from collections.abc import Callable

from .lexicon import Noun, Verb
from .meaning import Clause, Phrase, Sentence, Unit, content
from .phrases import PhraseSampler
from .selection import PEOPLE


class Sampler(PhraseSampler):
    """Sentences from random numbers in [0, 1): the same numbers give the same sentences.

    Budgets are lengths in English words; what is drawn comes close to them, not exactly to them.
    """

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
        if register == "familiar" and _begins_with_names(units):
            register = "neutral"
        vocative = self._addressee(units) if register == "familiar" else None
        return Sentence(units, mood, register, vocative)

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
            joint = "and" if units[-1].joint == "but" else joint
            unit = draw(share - 1, "later request" if mood == "request" else mood)
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
            return Unit(main, conjunction, _unfronted(self._statement(budget - 3, tense)))
        first = 3 + self.random() * (budget - 7)
        if conjunction == "if" or (conjunction == "when" and self.random() < 0.5):
            sub = self._statement(first, "present", calm=True, people=True)
            tense = "present" if self.random() < 0.4 else "future"
        elif conjunction == "when":
            sub = self._statement(first, "past", calm=True, people=True)
            tense = "past"
        else:
            sub = self._statement(first, "present" if self.random() < 0.4 else "past", people=True)
            tense = sub.tense if self.random() < 0.8 else "future"
        event = conjunction in ("if", "when")
        main = self._statement(budget - 1 - first, tense, people=True, event=event)
        if conjunction != "because":
            main = _unfronted(main)  # the subordinate clause is what stands in front
        if conjunction == "when":
            main = main._replace(time=None)  # the subordinate clause is the time
        return Unit(main, conjunction, _unfronted(sub))

    def _command_unit(self, budget: float, mood: str) -> Unit:
        if budget < 8 or not self.chance("subordinate"):
            return Unit(self._command(budget, mood))
        first = 3 + self.random() * min(6, budget - 7)
        sub = self._statement(first, "present", calm=True, people=True)
        conjunction = "if" if self.random() < 0.6 else "when"
        return Unit(self._command(budget - 1 - first, mood), conjunction, sub)

    def _statement(
        self,
        budget: float,
        tense: str = "",
        *,
        calm: bool = False,
        people: bool = False,
        event: bool = False,
    ) -> Clause:
        """A clause that states something, if wished about people or the weather.

        A calm one has neither modal nor fronted time; an event is nothing that always is so: nobody
        knows or loves someone if it rains.
        """
        kind = self.weighted("clause")
        if (
            people
            and kind not in ("action", "quality", "weather")
            and (kind != "profession" or calm or event)
        ):
            kind = "quality"
        if budget < 4 and kind in ("comparison", "existence", "location", "age"):
            kind = "action"
        if kind == "weather" and (event or budget > 6):
            kind = "action"
        if kind == "action":
            verb = self._event(budget) if event else None
            return self._action(budget, tense, calm=calm, verb=verb)
        tense = tense or ("past" if self.random() < 0.45 else "present")
        return self._state(kind, budget, tense, people)

    def _state(self, kind: str, budget: float, tense: str, people: bool) -> Clause:
        negated = kind != "age" and self.chance("negated")
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
                (self.choices.young if kind == "age" else self.choices.relatives),
                budget - 3,
                subject=True,
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
            kinds = PEOPLE if subject.noun is None else (subject.noun.kind,)
            alike = tuple(noun for noun in nouns if noun.kind in kinds)
            other = self._phrase(alike, 2, subject=True)
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
        subject = self._phrase(nouns, budget - 4, subject=True, pronoun=not standing)
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
        if verb.stative and tense in ("progressive", "future"):
            tense = "present"
        if verb.invariant and tense == "present":
            tense = "progressive"
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
        timeless = verb.lasting or (verb.stative and not self.choices.where[verb.id])
        if room >= 1 and not calm and not timeless and self.random() < 0.4:
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
            if mood != "request" and verb.ko.endswith("주다"):
                continue
            if positive and mood != "command" and not verb.requests:
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
            clause = self._action(budget - 1, tense, question=True)
            if clause.modal == "can" and tense == "past":
                # "Could you help us?" asks for help, and not about the past.
                clause = clause._replace(modal="")
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
            case "place" if (
                self.choices.where[verb.id] and plain and (verb.goal or not clause.place)
            ):
                return clause._replace(place=None)
            case "time" if clause.tense in ("past", "future") and not verb.stative:
                return clause._replace(time=None)
            case "reason":
                return clause
        return None

    def _addressee(self, units: tuple[Unit, ...]) -> Noun:
        """Somebody who is not spoken about."""
        mentioned = content(Sentence(units)).split()
        names = [n for n in self.choices.names if n.id not in mentioned]
        return self.pick(names or self.choices.names)


def _begins_with_names(units: tuple[Unit, ...]) -> bool:
    """Whether a name before the sentence would join its list: Sujin, Maria und Paul lachen."""
    subject = units[0].main.subject
    return len(subject) > 1 and subject[0].determiner == "proper"


def _unfronted(clause: Clause) -> Clause:
    """The clause with its time at its usual place, or without it where it could be misread."""
    if not clause.fronted:
        return clause
    clear = all(phrase.relative is None for phrase in clause.object)
    return clause._replace(fronted=False, time=clause.time if clear else None)
