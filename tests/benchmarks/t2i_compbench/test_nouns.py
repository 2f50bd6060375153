import json

import pytest

from benchmarks.t2i_compbench.rules.nouns import ALIASES, bearing, matches, names, parts, singular

PLURALS = """
mice:mouse people:person women:woman children:child snowmen:snowman geese:goose knives:knife shelves:shelf
bookshelves:bookshelf leaves:leaf gloves:glove beehives:beehive butterflies:butterfly
strawberries:strawberry cookies:cookie
ties:tie movies:movie tomatoes:tomato potatoes:potato shoes:shoe canoes:canoe photos:photo
peaches:peach brushes:brush
boxes:box dresses:dress buses:bus lenses:lens houses:house blouses:blouse vases:vase
horses:horse cactuses:cactus
octopuses:octopus cups:cup skis:ski keys:key toys:toy
"""
UNCHANGED = """
fish sheep deer shrimp goldfish glass glasses bus grass dress lens gas tennis walrus scissors
pants jeans rhinoceros specimen omen as is
"""


@pytest.mark.parametrize("pair", PLURALS.split())
def test_plurals(pair):
    plural, expected = pair.split(":")
    assert singular(plural) == expected
    assert singular(plural.upper()) == expected


@pytest.mark.parametrize("word", UNCHANGED.split())
def test_what_is_no_plural_stays(word):
    assert singular(word) == word


def test_of_several_words_the_last_one_is_changed():
    assert singular("Teddy Bears") == "teddy bear"
    assert singular("") == ""


def test_all_nouns_of_numeracy(data_dir):
    lines = (data_dir / "t2i_compbench" / "new_objects.txt").read_text(encoding="utf-8").splitlines()
    for one, many in (line.strip().split(" - ") for line in lines if line.strip()):
        assert (singular(one), singular(many)) == (one, one)


def test_the_singular_of_a_singular_is_itself(data_dir):
    words = json.loads((data_dir / "t2i_compbench" / "unidet_labels_722.json").read_text(encoding="utf-8"))[
        "labels"
    ]
    for word in [part.strip() for label in words for part in label.split(",")] + list(ALIASES):
        assert singular(singular(word)) == singular(word)


@pytest.mark.parametrize(
    ("noun", "label"),
    [
        ("cow", "cattle, cow"), ("table", "dining table"), ("table", "table, desk"), ("desk", "table, desk"),
        ("phone", "mobile phone, cell phone"), ("sofa", "loveseat, couch"),
        ("couch", "sofa bed"), ("mouse", "mouse2, mouse"),
        ("mouse", "mouse1"), ("mice", "mouse1"), ("bag", "handbag"),
        ("computer", "laptop"), ("painting", "picture, frame"),
        ("girl", "girl"), ("girl", "person"), ("person", "girl"), ("people", "woman"),
        ("turtle", "tortoise, tortoise/turtle"),
        ("pen", "pen, pen/pencil"), ("television", "tv"), ("Boots", "boots"), ("tissue", "tissue "),
    ],
)  # fmt: skip
def test_labels_that_a_noun_may_bear(noun, label):
    assert matches(noun, label)


@pytest.mark.parametrize(
    ("noun", "label"),
    [
        ("cat", "cattle, cow"), ("car", "carrot"), ("bee", "beer"), ("cup", "cupboard"),
        ("key", "monkey"), ("egg", "eggplant"),
        ("phone", "microphone"), ("bag", "cabbage"), ("bag", "backpack"),
        ("bear", "teddy bear"), ("dog", "hot dog"), ("girl", "boy"),
        ("man", "woman"), ("table", "tablet"), ("laptop", "computer monitor"),
        ("glass", "glasses"), ("wallet", "handbag"), ("cow", ""),
        ("", "cow"),
    ],
)  # fmt: skip
def test_labels_that_it_may_not(noun, label):
    assert not matches(noun, label)


def test_every_noun_of_the_prompts_but_the_wallet_has_a_label(data_dir):
    folder = data_dir / "t2i_compbench"
    labels = json.loads((folder / "unidet_labels_722.json").read_text(encoding="utf-8"))["labels"]
    known = json.loads((folder / "noun_to_unidet_labels.json").read_text(encoding="utf-8"))["nouns"]
    assert [noun for noun in known if not bearing(noun, labels)] == ["wallet"]
    for noun, own in known.items():
        assert set(own["exact"] + own["comma_part"]) <= set(bearing(noun, labels))


def test_a_label_that_names_several_things_is_each_of_them():
    assert parts("tortoise, tortoise/turtle") == {"tortoise", "turtle"}
    assert parts("mouse2, mouse") == {"mouse"}
    assert parts(" , ") == frozenset()
    assert names("Girls") == {"girl", "person"}
