"""Which labels of a detector a noun of a prompt may bear: the alias table of corrected mode (Q1, Q3, Q10,
Q14).

The official rules compare text. Here both sides are brought to the singular, a label that names several
things ("cattle, cow", "bread/bun") is each of them, the digits that tell namesakes apart ("mouse2") are
dropped, and a noun also goes by what detectors call it or its kinds: `ALIASES`, made for the nouns of
T2I-CompBench and UniDet's labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

PERSONS = ("boy", "girl", "man", "woman")  # the official rules take them for `person`

# noun -> what else a label may call it. One way only: every laptop is a computer, not every computer a
# laptop.
ALIASES = {
    **dict.fromkeys(PERSONS, ("person",)),
    "adult": ("person", "man", "woman"),
    "aeroplane": ("airplane",),
    "armchair": ("chair",),
    "baby": ("person", "boy", "girl"),
    "bag": ("handbag", "plastic bag", "luggage and bags"),
    "bear": ("brown bear", "polar bear"),
    "bike": ("bicycle",),
    "bird": ("wild bird",),
    "boat": ("ship", "sailboat"),
    "bookshelf": ("bookcase", "shelf"),
    "bunny": ("rabbit",),
    "burger": ("hamburger",),
    "bush": ("plant", "houseplant"),
    "car": ("sports car", "race car"),
    "cell phone": ("mobile phone",),
    "cellphone": ("cell phone", "mobile phone"),
    "child": ("person", "boy", "girl"),
    "clock": ("wall clock", "alarm clock", "digital clock"),
    "computer": ("laptop", "computer monitor", "computer box"),
    "couch": ("sofa", "loveseat", "sofa bed", "studio couch"),
    "cow": ("cattle",),
    "cup": ("coffee cup", "mug"),
    "donut": ("doughnut",),
    "fish": ("goldfish",),
    "fridge": ("refrigerator",),
    "goldfish": ("fish",),
    "guy": ("person", "man"),
    "headphone": ("head phone",),
    "headphones": ("head phone",),
    "helmet": ("bicycle helmet", "football helmet"),
    "hot air balloon": ("hotair balloon",),
    "kid": ("person", "boy", "girl"),
    "kitten": ("cat",),
    "knife": ("kitchen knife",),
    "lady": ("person", "woman"),
    "loveseat": ("couch", "sofa"),
    "microwave": ("microwave oven",),
    "mobile phone": ("cell phone",),
    "motorbike": ("motorcycle",),
    "mug": ("coffee cup",),
    "painting": ("picture",),
    "person": PERSONS,
    "phone": ("telephone", "mobile phone", "cell phone", "corded phone"),
    "photo": ("picture",),
    "plane": ("airplane",),
    "plant": ("houseplant", "potted plant"),
    "puppy": ("dog",),
    "purse": ("handbag", "clutch"),
    "ship": ("boat", "watercraft", "sailboat"),
    "smartphone": ("mobile phone", "cell phone"),
    "sneaker": ("footwear",),
    "sofa": ("couch", "loveseat", "sofa bed", "studio couch"),
    "suitcase": ("luggage",),
    "table": ("dining table", "coffee table", "kitchen & dining room table"),
    "telephone": ("corded phone", "mobile phone", "cell phone"),
    "television": ("tv",),
    "telivision": ("television", "tv"),  # so spelled in some official prompts
    "truck": ("pickup truck", "fire truck"),
    "turtle": ("sea turtle", "tortoise"),
    "tv": ("television",),
}

_IRREGULAR = {
    "axes": "axe",
    "cacti": "cactus",
    "children": "child",
    "feet": "foot",
    "fungi": "fungus",
    "geese": "goose",
    "grandchildren": "grandchild",
    "headaches": "headache",
    "lice": "louse",
    "mice": "mouse",
    "moustaches": "moustache",
    "mustaches": "mustache",
    "oxen": "ox",
    "people": "person",
    "quizzes": "quiz",
    "teeth": "tooth",
    **{f"{stem}ves": f"{stem}fe" for stem in ("housewi", "kni", "li", "penkni", "wi")},
    **{
        f"{stem}ves": f"{stem}f"
        for stem in (
            "bookshel",
            "cal",
            "dwar",
            "el",
            "hal",
            "hoo",
            "lea",
            "loa",
            "scar",
            "shea",
            "shel",
            "thie",
            "wol",
            "werewol",
        )
    },
    **{
        f"{stem}ies": f"{stem}ie"
        for stem in ("birdd", "brown", "cook", "hood", "mov", "p", "self", "smooth", "sorb", "t", "zomb")
    },
    **{f"{stem}es": stem for stem in ("atlas", "bias", "canvas", "christmas", "gas", "iris", "lens")},
    **{
        f"{word}s": word
        for word in (
            "aloe",
            "canoe",
            "doe",
            "foe",
            "hoe",
            "horseshoe",
            "oboe",
            "shoe",
            "snowshoe",
            "tiptoe",
            "toe",
        )
    },
    **{
        f"{word}s": word
        for word in (
            "bikini",
            "emu",
            "gnu",
            "guru",
            "kiwi",
            "menu",
            "panini",
            "safari",
            "ski",
            "taxi",
            "zucchini",
        )
    },
}
_UNCHANGED = frozenset(  # the same in both numbers, or singular in spite of their ends
    (  # noqa: SIM905 - a list would take fifty lines
        "abdomen albatross asbestos asparagus atlas bias binoculars canvas chaos christmas clothes "
        "cosmos crossroads deer dice gas "
        "glasses goggles goldfish jeans leggings lens moose news omen overalls pajamas pants pliers "
        "pyjamas ramen rhinoceros scissors "
        "series sheep shorts shrimp species specimen sunglasses tights tongs trousers tweezers"
    ).split()
)
_ES = re.compile(r"(?:ch|sh|ss|x|zz|o|(?<![aomf])us)es$")
_NO_PLURAL = re.compile(r"(?:ss|us|is)$|^.{0,2}$")


@cache
def singular(word: str) -> str:
    """`word` in lower case and in the singular; of several words the last one is changed ("Teddy bears":
    "teddy bear").

    A rule for the nouns that prompts and labels hold, not a dictionary: a singular stays as it is, words
    that are only used in the plural (glasses, scissors, pants) do too.
    """
    before, space, last = word.lower().strip().rpartition(" ")
    return before + space + _singular(last)


def _singular(word: str) -> str:
    if word in _UNCHANGED:
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("men"):
        return word[:-3] + "man"
    if word.endswith("ies"):
        return word[:-3] + "y"
    if _ES.search(word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not _NO_PLURAL.search(word) else word


@cache
def names(noun: str) -> frozenset[str]:
    """What a label may call `noun`, itself included, all in the singular."""
    own = singular(noun)
    return frozenset((own, *map(singular, ALIASES.get(own, ()))))


@cache
def parts(label: str) -> frozenset[str]:
    """The things that a label names, in the singular: "mouse2, mouse" is a mouse, "cattle, cow" one of
    both.
    """
    return frozenset(
        singular(part.strip().rstrip("0123456789")) for part in re.split(r"[,/]", label) if part.strip()
    )


def matches(noun: str, label: str) -> bool:
    """Whether a thing with this label may be what the prompt calls `noun` (corrected mode)."""
    return bool(bearing(noun, (label,)))


def bearing(noun: str, labels: Sequence[str]) -> list[int]:
    """The places of the labels that `noun` matches."""
    own = names(noun)
    return [place for place, label in enumerate(labels) if not own.isdisjoint(parts(label))]
