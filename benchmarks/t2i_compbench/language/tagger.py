"""Parts of speech by rules: the possible readings of a word (`lexicon`) and the words around it.

A stand-in for spaCy's model where that is not installed. Tags are spaCy's coarse ones, some with a note
behind a colon that the chunker reads: `VERB:mod` (a participle before its noun), `ADJ:pred` (an adjective
that is not), `PRON:poss` (its), `PRON:expl` (there is).
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.t2i_compbench.language.lexicon import VERBAL, readings


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPEN = VERBAL | {"noun", "adj", "adv"}
BE_OR_HAVE = _words("is are was were be been being am have has had having 're 'm 've 's get gets got getting")
MAIN_OR_AUX = _words("do does did have has had having")
ENDS_CLAUSE = _words(". ; : ! ? as while because although though if when whereas who which that")
MAY_JOIN_CLAUSES = _words("as after before since until")
POINTING = _words("that this these those")
PLURALS = _words("people men women children sheep mice geese feet teeth")
STARTS_PHRASE = frozenset({"DET", "PRON:poss", "NUM", "PRON", "ADP"})


def coarse(tag: str) -> str:
    """The tag as spaCy names it."""
    return tag.partition(":")[0]


def tag(words: Sequence[str], hyphens: Sequence[bool]) -> list[str]:
    """A tag for every word.

    Args:
        words: the tokens of a prompt.
        hyphens: whether a token is a hyphen between parts of one word.
    """
    tagger = _Tagger(words, hyphens)
    for place in range(len(words)):
        tagger.decide(place)
    return tagger.tags


class _Tagger:
    def __init__(self, words: Sequence[str], hyphens: Sequence[bool]) -> None:
        self.original, self.words, self.hyphens = words, [word.lower() for word in words], hyphens
        self.readings = [readings(word) for word in self.words]
        self.leads = [False] * len(
            words
        )  # do words that can stand in a noun phrase lead from each word on to a noun?
        for place in reversed(range(len(words))):
            self.leads[place] = self._leads_on(place)
        self.finite = [self._is_finite(place) for place in range(len(words))]
        self.tags: list[str] = []
        self.waiting: list[bool] = []  # after each word: has a noun phrase begun whose noun is still to come?

    def decide(self, place: int) -> None:
        """Tags the next word, and notes whether a noun phrase is open behind it."""
        chosen = self._special(place) or self._proper(place) or self._closed(place) or self._open(place)
        opened = self._opened(place)
        if chosen in ("DET", "PRON:poss", "NUM") or (self.words[place] in ("'s", "'") and chosen == "PART"):
            waits = True
        elif self.hyphens[place + 1 : place + 2] == [True]:
            waits = opened  # the first part of a word decides nothing
        elif chosen in ("ADJ", "VERB:mod"):
            waits = opened or self._before_noun(place)
            chosen = "ADJ:pred" if chosen == "ADJ" and not waits else chosen
        elif chosen in ("ADV", "CCONJ") or self.words[place] == "," or self.hyphens[place]:
            waits = opened
        else:
            waits = False
        self.tags.append(chosen)
        self.waiting.append(waits)

    # What stands around a word.

    def _previous(self, place: int) -> str:
        return self.tags[place - 1] if place else "START"

    def _is(self, place: int, *kinds: str) -> bool:
        """May the word at a place, if there is one, be one of these?"""
        return place < len(self.words) and not self.readings[place].isdisjoint(kinds)

    def _opened(self, place: int) -> bool:
        return place > 0 and self.waiting[place - 1]

    def _before_noun(self, place: int) -> bool:
        """May the words after this one lead to a noun that it belongs to?"""
        is_subject = (
            self._is(place, "noun") and self._is(place + 1, "past") and not self._is(place + 1, "noun")
        )
        return self.leads[place] and (not is_subject or self._has_verb(place + 1))

    def _leads_on(self, place: int) -> bool:
        after = place + 1
        if after >= len(self.words):
            return False
        if self.hyphens[after] or self._is(after, "noun"):
            return True
        if self._is(after, "adj", "participle", "ing", "adv", "NUM"):
            return self.leads[after]
        joined = self._joined(place)
        return joined is not None and self.leads[joined]

    def _joined(self, place: int) -> int | None:
        """Where the modifier stands that a comma or an `and` joins to the one at a place (black and
        white), if any.
        """
        after = place + 1
        after += self.words[after] == ","
        after += self._is(after, "CCONJ")
        is_head = self._is(place, "noun") and place > 0 and self._is(place - 1, "adj", "noun", "participle")
        modifies = self._is(after, "adj", "participle") or self.hyphens[after + 1 : after + 2] == [True]
        return after if after > place + 1 and not is_head and modifies else None

    def _clause(self, place: int) -> range:
        first = last = place
        while first > 0 and self.words[first - 1] not in ENDS_CLAUSE:
            first -= 1
        while last < len(self.words) and (last == place or self.words[last] not in ENDS_CLAUSE):
            last += 1
        return range(first, last)

    def _is_finite(self, place: int) -> bool:
        """Is the word a verb that says what its clause is about, whatever stands around it?"""
        found = self.readings[place]
        if found == {"AUX"}:
            return True
        if (
            not found <= VERBAL
            or not found & {"base", "third", "past"}
            or self.words[place - 1 : place] == ["to"]
        ):
            return False
        return not ("participle" in found and self.leads[place]) or (
            place > 0 and self.readings[place - 1] == {"noun"}
        )

    def _has_verb(self, place: int) -> bool:
        """Does the word's clause have a finite verb besides it?"""
        return any(self.finite[other] for other in self._clause(place) if other != place)

    # The classes.

    def _special(self, place: int) -> str | None:
        """Words whose class hangs on their neighbours in a way of their own."""
        word, previous = self.words[place], self._previous(place)
        if self.hyphens[place]:
            return "PUNCT"
        if place and self.hyphens[place - 1] and not self._is(place, *VERBAL, "adj"):
            return "NOUN"
        if word == "to":
            return self._to(place)
        if word in ("'s", "'"):
            return self._apostrophe(place)
        if word in POINTING or word in ("all", "both", "each", "some", "any", "another", "her"):
            return self._determiner(place)
        if word == "there":
            return "PRON:expl" if self._is(place + 1, "AUX") else "ADV"
        if word in ("one", "ones") and previous in ("ADJ", "VERB:mod"):
            return "NOUN"
        if word in MAIN_OR_AUX:
            after = place + 1 + self._is(place + 1, "PART", "adv")
            helps = self._is(after, "participle" if word.startswith("ha") else "base") and not self._is(
                after, "noun", "adj"
            )
            return "AUX" if helps else "VERB"
        if word == "can" and (
            self._opened(place) or (previous == "NOUN" and not self._is(place + 1, "base", "AUX"))
        ):
            return "NOUN"
        if (word == "back" and previous == "VERB") or (
            word in ("next", "close") and self.words[place + 1 : place + 2] == ["to"]
        ):
            return "ADV"
        if word == "like" and (
            previous in ("PRON", "PART") or self.words[place - 1 : place] in (["would"], ["'d"])
        ):
            return "VERB"
        if word in ("past", "opposite", "inside", "outside") and self._opened(place):
            return "ADJ" if self._before_noun(place) else "NOUN"
        if word in MAY_JOIN_CLAUSES and any(
            self.finite[other] for other in self._clause(place) if other > place
        ):
            return "SCONJ"
        return None

    def _to(self, place: int) -> str:
        if not self._is(place + 1, "base"):
            return "ADP"
        ends = place + 2 >= len(self.words) or self._is(place + 2, *STARTS_PHRASE)
        return "PART" if ends or not self._is(place + 1, "noun") else "ADP"

    def _apostrophe(self, place: int) -> str:
        if self._previous(place) in ("PRON", "PRON:expl", "ADV"):
            return "AUX"
        if self._previous(place) not in ("NOUN", "PROPN"):
            return "PUNCT"
        is_verb = (
            self.words[place] == "'s"
            and self._is(place + 1, "DET", "ing", "PART")
            and not self._is(place + 1, "noun")
        )
        return "AUX" if is_verb else "PART"

    def _determiner(self, place: int) -> str:
        word, heads = self.words[place], self._is(place + 1, "noun", "NUM", "DET") or self._before_noun(place)
        if word == "her":
            return "PRON:poss" if heads else "PRON"
        if word == "that" and self._previous(place) in ("NOUN", "PROPN"):
            return "PRON" if self._is(place + 1, *VERBAL, "AUX", "adv") else "SCONJ"
        if word == "that" and not heads:
            return "SCONJ" if self._previous(place) == "VERB" else "PRON"
        of_some = word not in POINTING and self._is(place + 1, "ADP")
        return "DET" if heads or of_some or word == "each" else "PRON"

    def _proper(self, place: int) -> str | None:
        """A capital inside a sentence names somebody or something."""
        word = self.original[place]
        inside = place > 0 and self.words[place - 1] not in (".", "!", "?", '"', ":")
        return (
            "PROPN"
            if inside and word[0].isupper() and len(word) > 2 and self.readings[place] <= OPEN
            else None
        )

    def _closed(self, place: int) -> str | None:
        fixed = self.readings[place] - OPEN
        return min(fixed) if fixed else None

    def _open(self, place: int) -> str:
        if self._opened(place):
            return self._in_phrase(place)
        previous = self._previous(place)
        if previous in ("NOUN", "PROPN", "PART", "PRON", "AUX", "ADV", "CCONJ") and self._is(place, *VERBAL):
            rule = {
                "PROPN": self._after_noun,
                "NOUN": self._after_noun,
                "AUX": self._after_auxiliary,
                "CCONJ": self._after_conjunction,
            }
            return rule[previous](place) if previous in rule else self._verb_or(place)
        return self._elsewhere(place)

    def _in_phrase(self, place: int) -> str:
        """After an article, a numeral or an adjective: a modifier or the noun."""
        found, leads_on = self.readings[place], self._before_noun(place)
        if "adj" in found and (leads_on or "noun" not in found):
            return "ADJ"
        if "noun" in found:
            return "NOUN"
        if found & {"participle", "ing"} and leads_on:
            return "VERB:mod"
        return "ADV" if "adv" in found else "VERB" if found & {"past", "third"} else "NOUN"

    def _after_noun(self, place: int) -> str:
        """A verb, or one more noun of a compound."""
        found = self.readings[place]
        starts = self._is(place + 1, *STARTS_PHRASE, "adv", "SCONJ") or (
            self._is(place + 1, "adj") and self._before_noun(place + 1)
        )
        if found <= {"past", "participle"}:
            return (
                "VERB:mod"
                if self._is(place + 1, "noun") and self._has_verb(place) and "participle" in found
                else "VERB"
            )
        if not found & {"noun", "adj"}:
            return "VERB"
        if "ing" in found:
            is_verb = self._is(place + 1, "DET", "PRON:poss", "NUM")
        elif "third" in found:
            is_verb = starts and not self._has_verb(place) and not self._plural(place - 1)
        elif "base" in found and not found & {"past", "participle"}:
            is_verb = starts and not self._has_verb(place) and self._many(place)
        else:
            is_verb = starts and not self._has_verb(place)
        return "VERB" if is_verb else self._nominal(place)

    def _plural(self, place: int) -> bool:
        word = self.words[place]
        return word in PLURALS or (word.endswith("s") and not word.endswith(("ss", "us", "is")))

    def _many(self, place: int) -> bool:
        """Is the subject before a place in the plural, by its noun or by an `and`?"""
        return self._plural(place - 1) or any(
            self.tags[other] == "CCONJ" for other in self._clause(place) if other < place
        )

    def _after_auxiliary(self, place: int) -> str:
        found = self.readings[place]
        if self.words[place - 1] not in BE_OR_HAVE:
            return "VERB" if "base" in found else self._nominal(place)
        if found & {"ing", "participle"} and ("adj" not in found or self._is(place + 1, "ADP", "PART")):
            return "VERB"
        return self._nominal(place)

    def _after_conjunction(self, place: int) -> str:
        """Like what stands before the `and`."""
        found = self.readings[place]
        clause = [
            self.readings[other]
            for other in self._clause(place)
            if other < place and self.tags[other] in ("VERB", "AUX")
        ]
        alike = any(found & other & {"base", "third", "past"} for other in clause)
        ing = "ing" in found and any("ing" in other for other in clause)
        if (ing and "noun" not in found) or (alike and not found & {"noun", "adj"}):
            return "VERB"
        if (ing or alike) and self._is(place + 1, *STARTS_PHRASE, "adj"):
            return "VERB"
        return self._elsewhere(place)

    def _verb_or(self, place: int) -> str:
        """After a pronoun, `to` or an adverb: a verb if the word can be one, but before a noun a
        participle describes it.
        """
        found = self.readings[place]
        if (
            found & {"participle", "ing"}
            and not found & {"past"}
            and self._previous(place) == "ADV"
            and self._is(place + 1, "noun")
        ):
            return "VERB:mod"
        return "ADJ" if "adj" in found and not found & {"base", "past"} else "VERB"

    def _elsewhere(self, place: int) -> str:
        """At the start, after a preposition, a verb or a mark."""
        found, previous = self.readings[place], self._previous(place)
        has_object = self._is(place + 1, *STARTS_PHRASE) or self._before_noun(place)
        if "ing" in found and (previous == "SCONJ" or (previous == "PUNCT" and has_object)):
            return "VERB"
        if found & {"noun", "adj"}:
            return self._nominal(place)
        if "participle" in found and self._before_noun(place):
            return "VERB:mod"
        modifies = previous in ("START", "CCONJ") or self.words[place - 1] in ("of", "with")
        if "ing" in found and modifies and self._before_noun(place):
            return "VERB:mod"
        return "ADV" if "adv" in found else "VERB"

    def _nominal(self, place: int) -> str:
        found = self.readings[place]
        if "adj" in found and (
            "noun" not in found or self._before_noun(place) or self._previous(place) == "AUX"
        ):
            return "ADJ"
        return "NOUN" if "noun" in found else "ADV" if "adv" in found else "VERB"
