"""The text side: specials by name, the prompt as upstream builds it, any chain in and out of ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_world import TEMPLATE
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from policies.janus import text
from policies.janus.text import ChainTokenizer

CHAIN = (
    "A <|obj_start|>red circle<|obj_end|> <|box_start|>(12,300),(499,777)<|box_end|> alone.<begin_of_image>"
)
TRAINED = text.train([CHAIN, "a red circle", "User: a blue square\n\nAssistant:"] * 3, 400)


@pytest.fixture(scope="module")
def chains() -> ChainTokenizer:
    return ChainTokenizer(Tokenizer.from_str(TRAINED.to_str()), TEMPLATE)


def test_special_tokens_are_found_by_name(chains: ChainTokenizer) -> None:
    specials = {"bos": text.BOS, "eos": text.EOS, "pad": text.PAD, "boi": text.END}
    for name, token in specials.items():
        assert TRAINED.token_to_id(token) == getattr(chains, name)
    assert chains.rows == TRAINED.get_vocab_size()


def test_the_prompt_is_stripped_as_upstream_strips_it_and_begins_with_bos(chains: ChainTokenizer) -> None:
    ids = chains.prompt_ids("  a red circle \n")
    assert ids[0] == chains.bos and ids.count(chains.bos) == 1
    assert ids == (chains.bos, *TRAINED.encode("User: a red circle\n\nAssistant:").ids)


def test_a_template_that_writes_bos_itself_gets_no_second_one() -> None:
    own = ChainTokenizer(Tokenizer.from_str(TRAINED.to_str()), text.BOS + TEMPLATE)
    assert own.prompt_ids("x").count(own.bos) == 1


def test_upstreams_prompts_are_reproduced(conformance_dir: Path) -> None:
    golden = json.loads((conformance_dir / "janus_tiny" / "golden_got.json").read_text(encoding="utf-8"))
    template = (
        "User: Follow the caption to generate an image through a chain of thought process: {caption}"
        "\n\nAssistant:"
    )
    chains = ChainTokenizer.load(conformance_dir / "janus_tiny" / "checkpoint", template)
    assert golden["prompts"]
    for prompt in golden["prompts"]:
        assert list(chains.prompt_ids(prompt["caption"])) == prompt["prompt_ids"]
    for case in golden["cases"]:
        assert case["chain_ids"][-1] == chains.boi


def test_tokens_of_the_grammar_have_one_id_each_and_a_box_three(chains: ChainTokenizer) -> None:
    for token in (*text.GOT, text.END):
        assert len(chains.chain_ids(token)) == 1
    assert len(text.GOT) == 4
    box = chains.chain_ids("(12,300),(499,777)")
    assert len(box) == 3, "two corners and the comma, for boxes seen in training"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_goes_in_and_comes_out(written: str) -> None:
    chains = ChainTokenizer(TRAINED, TEMPLATE)
    assert chains.chain_text(chains.chain_ids(written)) == written


def test_a_chain_goes_in_and_comes_out_with_its_tags(chains: ChainTokenizer) -> None:
    assert chains.chain_text(chains.chain_ids(CHAIN)) == CHAIN


def test_any_ids_come_out_as_some_text(chains: ChainTokenizer) -> None:
    assert isinstance(chains.chain_text(range(chains.rows)), str)


def test_the_grammars_tokens_are_appended_where_a_checkpoint_lacks_them(conformance_dir: Path) -> None:
    file = conformance_dir / "janus_tiny" / "checkpoint" / "tokenizer.json"
    plain = Tokenizer.from_file(str(file))
    chains = ChainTokenizer(Tokenizer.from_file(str(file)), TEMPLATE)
    size = plain.get_vocab_size()
    assert [plain.token_to_id(token) for token in text.GOT] == [None] * 4
    assert [
        chains.chain_ids(token) for token in ("<|box_start|>", "<|box_end|>", "<|obj_start|>", "<|obj_end|>")
    ] == [(size + place,) for place in range(4)]


def test_tokens_of_the_grammar_that_are_there_keep_their_ids_and_only_the_others_are_appended() -> None:
    tokenizer = Tokenizer.from_str(
        TRAINED.to_str().replace("<|box_end|>", "<|was_box_end|>").replace("<|obj_end|>", "<|was_obj_end|>")
    )
    before = {token: tokenizer.token_to_id(token) for token in ("<|box_start|>", "<|obj_start|>")}
    size = tokenizer.get_vocab_size()
    chains = ChainTokenizer(tokenizer, TEMPLATE)
    found = {token: chains.chain_ids(token) for token in text.GOT}
    assert found == {
        token: (place,) for token, place in {**before, "<|box_end|>": size, "<|obj_end|>": size + 1}.items()
    }


def test_rows_count_to_the_highest_id_where_ids_have_gaps() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 99}, merges=[]))
    tokenizer.add_special_tokens(list(text.SPECIAL))
    assert tokenizer.get_vocab_size() < 100 == ChainTokenizer(tokenizer, TEMPLATE).rows


def test_what_was_appended_is_saved(tmp_path: Path, conformance_dir: Path) -> None:
    chains = ChainTokenizer.load(conformance_dir / "janus_tiny" / "checkpoint", TEMPLATE)
    chains.save(tmp_path)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [saved.token_to_id(token) for token in text.GOT] == [
        chains.chain_ids(token)[0] for token in text.GOT
    ]


def test_saved_it_opens_as_an_ordinary_tokenizer(tmp_path: Path, chains: ChainTokenizer) -> None:
    text.save(TRAINED, tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert tuple(opened(CHAIN, add_special_tokens=False).input_ids) == chains.chain_ids(CHAIN)
    assert opened.decode(chains.chain_ids(CHAIN)) == CHAIN
    assert (opened.bos_token_id, opened.eos_token_id, opened.pad_token_id) == (
        chains.bos,
        chains.eos,
        chains.pad,
    )
    again = ChainTokenizer.load(tmp_path, TEMPLATE)
    assert again.chain_ids(CHAIN) == chains.chain_ids(CHAIN)


def test_training_twice_gives_the_same_tokenizer() -> None:
    texts = [CHAIN, "a red circle", "User: a blue square\n\nAssistant:"] * 3
    assert text.train(texts, 400).to_str() == TRAINED.to_str()


def test_wrong_folders_tokenizers_and_templates_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        ChainTokenizer.load(tmp_path, TEMPLATE)
    (tmp_path / "tokenizer.json").write_text(TRAINED.to_str()[:200], encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read.*fetched again"):
        ChainTokenizer.load(tmp_path, TEMPLATE)
    with pytest.raises(ValueError, match=r"must contain \{caption\}, got 'Draw:'"):
        ChainTokenizer(TRAINED, "Draw:")
    foreign = Tokenizer.from_str(TRAINED.to_str().replace("begin_of_image", "something_else"))
    with pytest.raises(ValueError, match="no token '<begin_of_image>': it is not a Janus tokenizer"):
        ChainTokenizer(foreign, TEMPLATE)


BETWEEN = "<|User|>: A photo of {caption}. Output a richly detailed prompt:\n\n<|Assistant|>:"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (BETWEEN, "A photo of  a cup \n. Output a richly detailed prompt:\n\n<|Assistant|>:"),
        ("User: {caption} in detail\n\nAssistant:", "a cup \n in detail\n\nAssistant:"),
        ("User: {caption}\n\nAssistant:", "a cup\n\nAssistant:"),
        ("<|User|>: {caption}\n\n<|Assistant|>:", "a cup\n\n<|Assistant|>:"),
        ("<|User|>{caption}<|Assistant|>", "a cup<|Assistant|>"),
        ("Draw: {caption}", "a cup"),
    ],
)
def test_a_caption_is_stripped_only_where_it_begins_or_ends_the_message(template: str, message: str) -> None:
    chains = ChainTokenizer(Tokenizer.from_str(TRAINED.to_str()), template)
    opening = template[: template.index("A photo" if "A photo" in template else "{caption}")]
    if template.startswith("Draw"):
        message = " " + message
    expected = TRAINED.encode(opening + message).ids
    assert chains.prompt_ids(" a cup \n") == (chains.bos, *expected)


def test_a_tokenizer_of_a_model_that_does_not_know_them_gets_no_tokens_of_the_grammar(
    conformance_dir: Path,
) -> None:
    folder = conformance_dir / "janus_tiny" / "checkpoint"
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    chains = ChainTokenizer.load(folder, TEMPLATE, got_tokens=False)
    assert chains.rows == plain.get_vocab_size()
    assert len(chains.chain_ids("<|box_start|>")) > 1 and chains.chain_text([chains.rows]) == ""
