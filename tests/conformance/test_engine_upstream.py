"""The engine computes and draws what upstream's own programs did, in float32: logits, chains, image
tokens, log-probs, pixels.

Runs over every case of every `janus_*` folder that is found. The programs are GoT-R1's
(`golden_got`), Janus's own, which writes no chain (`golden_janus`), and the image stage of T2I-R1
(`golden_t2ir1`), whose padding no engine of ours uses: its rows are built here.
"""

from __future__ import annotations

import json
import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import JanusForConditionalGeneration

from harness.types import Sampling
from policies.janus import checkpoint, engine, vq
from policies.janus.cache import KeyValues, RowGroup
from policies.janus.decoder import Decoder
from policies.janus.draw import ALL, Rows, Upstream, guide
from policies.janus.engine import Engine, GivenChain, Rollouts
from policies.janus.steps import Compiled

ROOT = Path(
    os.environ.get("CONFORMANCE_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "conformance")
)
BOS = "<｜begin▁of▁sentence｜>"
LOGITS = 1.5e-5  # of the largest: other batch shapes and a kept cache give up to 1e-4 on logits of size 14
LOGPROBS = {"rtol": 0.0, "atol": 1e-3}
BOTH_ROWS = math.nextafter(
    1.0, 2.0
)  # guidance that is 1 in float32 and runs the unconditional rows too, as Janus's program always does


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _cases(part: str, *, guided: bool = False) -> list[Any]:
    files = sorted(ROOT.glob(f"janus_*/golden_{part}.json"))
    cases = [
        (file.parent, case)
        for file in files
        for case in _json(file)["cases"]
        if not guided or case["cfg_weight"] > 1
    ]
    found = [pytest.param(folder, case, id=f"{folder.name}-{case['name']}") for folder, case in cases]
    nothing = pytest.mark.skip(reason=f"no janus_*/golden_{part}.json under {ROOT}: set CONFORMANCE_DIR")
    return found or [pytest.param(None, None, marks=nothing)]


@lru_cache(maxsize=1)
def _model(folder: Path) -> JanusForConditionalGeneration:
    torch.set_num_threads(1)
    return checkpoint.load(folder / "checkpoint")


@lru_cache(maxsize=3)
def _tensors(folder: Path, part: str) -> dict[str, Tensor]:
    return load_file(folder / f"golden_{part}.safetensors")


def _ids(folder: Path) -> dict[str, int]:
    golden = _json(folder / "golden_got.json")
    return {"bos": golden["special_ids"][BOS], "pad": golden["pad_id"], "boi": golden["boi_id"]}


class Observed(Upstream):
    """Keeps the raw logits that every draw is made from."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.chains: list[Tensor] = []
        self.images: list[Tensor] = []

    def chain(self, logits_BV: Tensor, step: int, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        self.chains.append(logits_BV[0].clone())
        return super().chain(logits_BV, step, rows)

    def image(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        self.images.append(logits.clone())
        return super().image(logits, step)


def _drawn(
    monkeypatch: pytest.MonkeyPatch, folder: Path, prompt: list[int], case: dict[str, Any], **settings: Any
) -> tuple[Rollouts, Observed]:
    """One call of upstream's program: `parallel_size` equal prompts with one seed."""
    observed: list[Observed] = []
    monkeypatch.setattr(engine, "Upstream", lambda *args: observed.append(Observed(*args)) or observed[-1])
    images = case["parallel_size"]
    drawn = Engine(_model(folder), **_ids(folder)).rollout(
        [tuple(prompt)] * images,
        [case.get("seed", case.get("torch_seed"))] * images,
        Sampling(random="upstream", **settings),
    )
    assert len(observed) == 1
    return drawn, observed[0]


def _check_logits(found: Tensor, golden: Tensor) -> None:
    torch.testing.assert_close(found, golden, rtol=0.0, atol=LOGITS * golden.abs().max().item())


def _interleaved(logits: list[Tensor], copies: int) -> Tensor:
    """[steps, rows, codes] as upstream orders rows: conditional, unconditional, conditional, ..."""
    return torch.stack([one.unflatten(0, (copies, -1)).transpose(0, 1).flatten(0, 1) for one in logits])


def _check_images(
    folder: Path, case: dict[str, Any], drawn: Rollouts, observed: Observed, golden: dict[str, Tensor]
) -> None:
    name, images = case["name"], case["parallel_size"]
    assert [list(tokens.image) for tokens in drawn.tokens] == case["image_tokens"]
    _check_logits(
        _interleaved(observed.images, len(observed.images[0]) // images), golden[f"{name}/gen_logits"]
    )
    vqmodel, codes = _model(folder).model.vqmodel, torch.tensor(case["image_tokens"])
    with torch.no_grad():
        torch.testing.assert_close(vqmodel.decode(codes), golden[f"{name}/decoded"], rtol=0.0, atol=2e-5)
    found = np.stack(
        [np.asarray(image) for image in vq.decode(vqmodel, [one.image for one in drawn.tokens])]
    ).astype(int)
    levels = (golden[f"{name}/decoded"].permute(0, 2, 3, 1).numpy() + 1) / 2 * 255
    at_edge = (
        np.abs(levels - levels.round()) < 5e-3
    )  # where the last bits of float32 decide which way truncation falls
    away = np.abs(found - golden[f"{name}/image_u8"].numpy().astype(int))
    assert (away <= at_edge).all()


@pytest.mark.parametrize(("folder", "case"), _cases("got"))
def test_got_r1(folder: Path, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    golden, name = _tensors(folder, "got"), case["name"]
    prompt = _json(folder / "golden_got.json")["prompts"][case["caption"]]["prompt_ids"]
    settings = {name: case[name] for name in ("text_temperature", "image_temperature")}
    drawn, observed = _drawn(
        monkeypatch, folder, prompt, case, guidance=case["cfg_weight"], max_chain_tokens=600, **settings
    )
    for tokens in drawn.tokens:
        assert list(tokens.chain) == case["chain_ids"]
        assert tokens.forced_end == case["forced_boi"]
        assert [*tokens.prompt, *tokens.chain] == case["image_row_ids_cond"]
    _check_logits(_recorded(case, observed.chains), golden[f"{name}/chain_logits"])
    _check_images(folder, case, drawn, observed, golden)
    sampled = len(case["chain_ids"]) - case["forced_boi"]
    for index, logprobs in enumerate(drawn.logprobs):
        if f"{name}/chain_logprobs" in golden:
            torch.testing.assert_close(
                torch.tensor(logprobs[:sampled]), golden[f"{name}/chain_logprobs"], **LOGPROBS
            )
        if f"{name}/image_logprobs" in golden:
            image = torch.tensor(logprobs[len(case["chain_ids"]) :])
            torch.testing.assert_close(image, golden[f"{name}/image_logprobs"][index], **LOGPROBS)


@pytest.mark.parametrize(("folder", "case"), _cases("got"))
def test_got_r1s_chains_that_are_given_have_its_images(folder: Path, case: dict[str, Any]) -> None:
    prompt = _json(folder / "golden_got.json")["prompts"][case["caption"]]["prompt_ids"]
    settings = {name: case[name] for name in ("text_temperature", "image_temperature")}
    sampled = len(case["chain_ids"]) - case["forced_boi"]
    images = case["parallel_size"]
    drawn = Engine(_model(folder), **_ids(folder)).draw(
        [tuple(prompt)] * images,
        [GivenChain(tuple(case["chain_ids"][:sampled]), is_sampled=True)] * images,
        [case.get("seed", case.get("torch_seed"))] * images,
        Sampling(random="upstream", guidance=case["cfg_weight"], max_chain_tokens=600, **settings),
    )
    assert [list(tokens.image) for tokens in drawn.tokens] == case["image_tokens"]
    assert {tokens.chain for tokens in drawn.tokens} == {tuple(case["chain_ids"])}


def _recorded(case: dict[str, Any], chains: list[Tensor]) -> Tensor:
    """Those of the chain's logits that the golden file keeps."""
    assert len(chains) == case["n_chain_model_steps"]
    if kept := re.fullmatch(r"first (\d+) and last (\d+) .*", case["chain_logits_rows"]):
        first, last = map(int, kept.groups())
        chains = chains if len(chains) <= first + last else [*chains[:first], *chains[-last:]]
    return torch.stack(chains)


@pytest.mark.parametrize(("folder", "case"), _cases("got", guided=True))
def test_the_unconditional_row_is_erased_by_position(
    folder: Path, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, read = _ids(folder), []
    prefill = Decoder.prefill
    embedding = _model(folder).model.language_model.embed_tokens.weight

    def reading(self: Decoder, embeds_RTH: Tensor) -> tuple[Tensor, KeyValues]:
        read.append(torch.cdist(embeds_RTH[0], embedding).argmin(-1).tolist())
        return prefill(self, embeds_RTH)

    monkeypatch.setattr(Decoder, "prefill", reading)
    chain = {"guidance": case["cfg_weight"], "max_chain_tokens": 0}
    shown = case["image_row_ids_cond"]
    _drawn(monkeypatch, folder, shown[:-1], {**case, "parallel_size": 1}, **chain)
    assert read == [shown[:-1], case["image_row_ids_uncond"][:-1]]
    assert case["image_row_ids_uncond"][-1] == shown[-1] == ids["boi"]


@pytest.mark.parametrize(("folder", "case"), _cases("janus"))
def test_janus_without_a_chain(folder: Path, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    *prompt, boi = case["prompt_ids"]
    guidance = max(case["cfg_weight"], BOTH_ROWS)
    settings = {"guidance": guidance, "image_temperature": case["temperature"], "max_chain_tokens": 0}
    drawn, observed = _drawn(monkeypatch, folder, prompt, case, **settings)
    assert all(tokens.chain == (boi,) and tokens.forced_end for tokens in drawn.tokens)
    _check_images(folder, case, drawn, observed, _tensors(folder, "janus"))


@pytest.mark.parametrize(
    "folder",
    sorted(file.parent for file in ROOT.glob("janus_*/golden_got.json")),
    ids=lambda folder: folder.name,
)
def test_text_logits_of_whole_prompts(folder: Path) -> None:
    model = _model(folder)
    for index, prompt in enumerate(_json(folder / "golden_got.json")["prompts"]):
        decoder = Decoder(model.model.language_model, torch.float32, len(prompt["prompt_ids"]))
        with torch.no_grad():
            hidden_1TH, _ = decoder.prefill(
                model.model.language_model.embed_tokens(torch.tensor([prompt["prompt_ids"]]))
            )
            logits_TV = model.lm_head(hidden_1TH[0])
        _check_logits(logits_TV, _tensors(folder, "got")[f"prompt{index}/text_logits"])


@pytest.mark.parametrize(("folder", "case"), _cases("t2ir1"))
@torch.no_grad()
def test_t2i_r1_by_rows_of_its_own(folder: Path, case: dict[str, Any]) -> None:
    """Right padding before begin-of-image, hidden in conditional rows only, counted as positions in
    all; the recorded tokens are forced.
    """
    model, ids = _model(folder), _ids(folder)
    shown_BT = torch.tensor(case["input_ids_right_padded"])
    batch, length = shown_BT.shape
    tokens_BT = torch.tensor(case["image_tokens"])
    steps = tokens_BT.shape[1]
    embed = model.model.language_model.embed_tokens
    decoder = Decoder(model.model.language_model, torch.float32, length + steps)
    _, conditional = decoder.prefill(embed(shown_BT))
    _, erased = decoder.prefill(embed(torch.tensor([[ids["bos"], *[ids["pad"]] * (length - 1)]])))
    conditional = conditional.seen(torch.tensor(case["attention_mask"]).sum(1))
    groups = [RowGroup(batch, [prefix], decoder.tail(batch, steps)) for prefix in (conditional, erased)]
    advance = Compiled(decoder, model.model.generation_head, groups, torch.full((2 * batch,), length))
    drawn = model.prepare_embeddings_for_image_generation(tokens_BT)
    inputs = [embed(torch.full((batch,), ids["boi"])), *drawn.unbind(1)[:-1]]
    logits = [advance(one.repeat(2, 1), step) for step, one in enumerate(inputs)]
    _check_logits(_interleaved(logits, 2), _tensors(folder, "t2ir1")[f"{case['name']}/gen_logits"])
    if case["temperature"] < 1e-3:  # upstream's way of being greedy
        best = torch.stack([guide(one, case["cfg_weight"]).argmax(-1) for one in logits], 1)
        assert best.tolist() == case["image_tokens"]
