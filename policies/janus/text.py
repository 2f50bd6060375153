"""The text of a Janus checkpoint: special ids by name, the prompt template, chains to ids and back.

`tokenizers.Tokenizer` is used directly: transformers 5 drops the BOS of DeepSeek-style tokenizers. Ids differ
between Janus-Pro-1B and 7B, so they are looked up by string, never by number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from harness.chain import BOX_END, BOX_START, END, OBJ_END, OBJ_START
from policies.janus.folder import TOKENIZER

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
IMAGE_PLACEHOLDER = "<image_placeholder>"
SPECIAL = (BOS, EOS, PAD, "<|User|>", "<|Assistant|>", IMAGE_PLACEHOLDER, END, "<end_of_image>")
# the text before a caption with which the user's message begins
OPENING = re.compile(r"(^|User|<\|User\|>):? ?$")
# the text behind a caption before which the user's message ends
CLOSING = re.compile(rf"\s*($|Assistant\b|<\|Assistant\|>|{EOS})")
GOT = (BOX_START, BOX_END, OBJ_START, OBJ_END)  # in the order in which GoT-R1 appends them


class ChainTokenizer:
    """Prompts and chains as ids.

    Args:
        tokenizer: a Janus tokenizer.
        template: holds `{caption}` once.
        got_tokens: append the tokens of GoT's chains that the tokenizer lacks; without them, ids behind its
            end have no text.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, *, got_tokens: bool = True) -> None:
        if "{caption}" not in template:
            raise ValueError(f"the prompt template must contain {{caption}}, got {template!r}")
        self._tokenizer = tokenizer
        self._before, _, self._after = template.partition("{caption}")
        if got_tokens:
            missing = [token for token in GOT if tokenizer.token_to_id(token) is None]
            tokenizer.add_tokens([AddedToken(token, normalized=False) for token in missing])
        self.bos, self.eos, self.pad, self.boi = (self._id(token) for token in (BOS, EOS, PAD, END))
        # for reading images; drawing does not use it
        self.placeholder: int | None = tokenizer.token_to_id(IMAGE_PLACEHOLDER)

    @classmethod
    def load(cls, folder: Path, template: str, *, got_tokens: bool = True) -> ChainTokenizer:
        file = folder / TOKENIZER
        if not file.is_file():
            raise ValueError(f"{folder} has no {TOKENIZER}: it is not a Janus checkpoint folder")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(
                f"{file} cannot be read as a tokenizer ({error}): it must be made or fetched again"
            ) from error
        return cls(tokenizer, template, got_tokens=got_tokens)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json`, including the tokens that were appended."""
        self._tokenizer.save(str(folder / TOKENIZER))

    @property
    def rows(self) -> int:
        """The number of embedding rows that it requires: its highest id plus one."""
        return max(self._tokenizer.get_vocab().values()) + 1

    def _id(self, token: str) -> int:
        id_ = self._tokenizer.token_to_id(token)
        if id_ is None:
            raise ValueError(f"the tokenizer has no token {token!r}: it is not a Janus tokenizer")
        return id_

    def prompt_ids(self, caption: str) -> tuple[int, ...]:
        """The ids of the prompt from BOS up to the chain."""
        if OPENING.search(self._before):
            caption = caption.lstrip()
        message = self._before + caption
        if CLOSING.match(self._after):
            message = message.rstrip()
        text = (message + self._after).strip()  # upstream strips the message, then the prompt
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return tuple(ids if ids[:1] == [self.bos] else [self.bos, *ids])

    def chain_ids(self, chain: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(chain, add_special_tokens=False).ids)

    def chain_text(self, ids: Sequence[int]) -> str:
        """All ids decoded, special tokens kept, as upstream saves its chains."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE with Janus's special tokens.

    Any text has ids; frequent words and box corners have one each. Corners `(x,y)` are not split before
    merging, so a box has three ids and a chain about thirty.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"\(\d+,\d+\)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]|\s+"), behavior="isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in GOT])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes `tokenizer.json`, and the file that transformers' AutoTokenizer requires to open it."""
    tokenizer.save(str(folder / TOKENIZER))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8"
    )
