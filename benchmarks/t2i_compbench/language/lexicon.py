"""The possible parts of speech of a word: small lists of English words, their inflections, and word
endings.

The closed classes stand here; nouns.txt holds only nouns that would otherwise be read as something else,
since a word that nothing is known about is a noun. A reading in capitals is a tag that needs no context;
those in small letters do: `noun`, `adj`, `adv`, and of verbs `base` (walk), `third` (walks), `past`,
`participle` and `ing`.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from pathlib import Path

DATA_FILES = (  # count in the keys of stages
    "adjectives.txt",
    "adverbs.txt",
    "irregular_verbs.txt",
    "materials.txt",
    "nouns.txt",
    "verbs.txt",
)
VERBAL = frozenset({"base", "third", "past", "participle", "ing"})

CLOSED = {
    tag: frozenset(words.split())
    for tag, words in {
        "DET": "a an the this these those that some any no every each both all another either neither",
        "PRON": """
            i you he she it we they me him us them myself yourself himself herself itself ourselves
            themselves who whom which what someone somebody something anyone anybody anything
            everyone everybody everything nobody nothing none mine yours ours theirs hers
        """,
        "PRON:poss": "my your his its our their her whose",
        "ADP": """
            about above across after against along alongside amid amidst among around as at atop
            before behind below beneath beside besides between beyond by despite down during except
            for from in including inside into like near of off on onto opposite out outside over
            past per since than through throughout to toward towards under underneath until up upon
            via with within without
        """,
        "CCONJ": "and or but nor",
        "SCONJ": "while because although though if unless whereas whether",
        "AUX": """
            is are was were be been being am can could will would shall should may might must 're 'm 've 'd
            'll ca wo
        """,
        "PART": "not n't",
        "NUM": """
            one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
            sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty
            ninety hundred thousand million
        """,
        "INTJ": "hello hi goodbye oh wow yes please",
    }.items()
}

ADJECTIVE_ENDINGS = re.compile(
    r".{2,}(?:ous|ful|less|ish|ular|ical|ional|ental|inal|ial|ual|oral|ic|ive|able|ible|esque|oidal|agonal|angular|shaped)$"
)
SHORT = 4  # a word of so few letters that ends in -ed, -ing or -ly is no inflection (bed, ring, fly)


@functools.lru_cache(maxsize=65536)
def readings(word: str) -> frozenset[str]:
    """All that a word of small letters may be."""
    if not any(letter.isalnum() for letter in word):
        return frozenset({"CCONJ" if word == "&" else "PUNCT"})
    if re.fullmatch(r"[\d.,:/]+(?:st|nd|rd|th)?", word):
        return frozenset({"NUM" if word[-1].isdigit() else "adj"})
    closed = {tag for tag, words in CLOSED.items() if word in words}
    return frozenset(closed or _listed(word) or _by_ending(word))


def _listed(word: str) -> set[str]:
    found = {
        reading
        for reading, name in (("adj", "adjectives"), ("adv", "adverbs"), ("noun", "nouns"))
        if word in words_of(name)
    }
    found |= _verb_forms().get(word, set())
    if "third" in found and words_of("nouns") & _without_s(word):
        found.add("noun")
    return found


def _by_ending(word: str) -> set[str]:
    if len(word) > SHORT:
        if word.endswith("ly"):
            return {"adv"}
        if word.endswith("ing"):
            return {"ing"}
        if word.endswith("ed") and not word.endswith("eed"):
            return {"past", "participle"}
        if ADJECTIVE_ENDINGS.fullmatch(word):
            return {"adj"}
    return {"noun"}


@functools.cache
def words_of(name: str) -> frozenset[str]:
    """The words of a list beside this file."""
    return frozenset((Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").split())


@functools.cache
def _verb_forms() -> dict[str, set[str]]:
    """Every form of the listed verbs -> what it may be."""
    forms: dict[str, set[str]] = defaultdict(set)
    for base in words_of("verbs"):
        forms[base].add("base")
        forms[_with_s(base)].add("third")
        for stem in _stems(base):
            forms[f"{stem}ing"].add("ing")
            forms[f"{stem}ed"] |= {"past", "participle"}
        if base.endswith("y") and base[-2] not in "aeiou":
            forms[f"{base[:-1]}ied"] |= {"past", "participle"}
    for line in (Path(__file__).parent / "irregular_verbs.txt").read_text(encoding="utf-8").splitlines():
        base, past, participle = line.split()
        forms[past].add("past")
        forms[participle].add("participle")
    for form, reading in (("has", "third"), ("lying", "ing"), ("dying", "ing"), ("tying", "ing")):
        forms[form].add(reading)
    return dict(forms)


def _with_s(base: str) -> str:
    if base.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{base}es"
    return f"{base[:-1]}ies" if base.endswith("y") and base[-2] not in "aeiou" else f"{base}s"


def _without_s(word: str) -> set[str]:
    return {word[:-1], word.removesuffix("es"), f"{word.removesuffix('ies')}y"}


def _stems(base: str) -> set[str]:
    """What -ing and -ed are put to; both spellings where one cannot tell whether the last letter doubles."""
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return {base[:-1]}
    doubles = re.search(r"(?:^|[^aeiou])[aeiou][bdgklmnprtvz]$", base)
    return {base, base + base[-1]} if doubles else {base}
