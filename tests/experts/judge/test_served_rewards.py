"""A reward batch through a real server on loopback, which is killed and started again in the middle."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
import tiny_vlm
from omegaconf import OmegaConf

from harness.chain import format_chain, parse
from harness.composition.components import make
from harness.reward.function import RewardFunction, used_components
from harness.types import Box, PlannedObject, Prompt, Sample, Tokens

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


def rewards(folder: Path, url: str) -> RewardFunction:
    """`rewards/got_r1.yaml` with one server for all four components, as with `judge=server grounder=mllm`."""
    named = {"judge": "harness/conf/judge/server.yaml", "grounder": "harness/conf/grounder/mllm.yaml"}
    root = {name: OmegaConf.load(ROOT / file)[name] for name, file in named.items()} | {
        "rewards": OmegaConf.load(ROOT / "rewards/got_r1.yaml")
    }
    changes = {
        "judge": {"model": str(folder), "flavour": "transformers", "max_tokens": 60, "serving": {"url": url}},
        "grounder": {"max_pixels": tiny_vlm.PIXELS["longest_edge"]},
        "rewards": {"components": {"spa": {"size": 112}}},
    }
    config = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(root), changes), resolve=True)
    return RewardFunction(**make(used_components(config["rewards"])))


def sample(number: int) -> Sample:
    """Even ones are red, odd ones blue; the plan is where the model finds red things."""
    shade = 200 + number % 40
    color = (shade, 30, 30) if number % 2 == 0 else (30, 30, shade)
    thing = PlannedObject(name="a circle" if number % 3 else "a dog", box=Box(125, 125, 875, 875))
    return Sample(
        prompt=Prompt(id=str(number), text="a red circle", category="color"),
        chain=parse(format_chain("A ", thing, ".")),
        image=tiny_vlm.picture(color, 56),
        tokens=Tokens(prompt=(1,), chain=(2,), image=(3,)),
        logprobs=(0.0, 0.0),
        seed=0,
    )


def test_a_real_model_tells_red_from_blue_through_the_rewards(vlm_folder, judge_server):
    samples = [sample(number) for number in range(6)]
    scored = rewards(vlm_folder, judge_server.url)(samples)
    for number, reward in enumerate(scored):
        values = {name: score.value for name, score in reward.components.items()}
        red = number % 2 == 0
        assert values == {"pi": 1.0 if red else 0.2, "sem": 0.6, "spa": 0.8, "ri": 1.0 if red else 0.0}
        assert reward.total.value == pytest.approx(0.7 if red else 0.0)


def test_a_server_killed_in_the_middle_of_a_batch_changes_no_reward(vlm_folder, judge_server, capfd):
    samples = [sample(number) for number in range(40)]
    reward = rewards(vlm_folder, judge_server.url)
    sent = threading.Semaphore(0)
    connection = reward.components["pi"].judge._connection
    post = connection.post
    connection.post = lambda *arguments: (sent.release(), post(*arguments))[1]

    def kill_and_restart() -> None:
        for _ in range(20):
            sent.acquire()
        judge_server.stop(signal.SIGKILL)
        judge_server.start()

    trouble = threading.Thread(target=kill_and_restart)
    trouble.start()
    try:
        interrupted = reward(samples)
    finally:
        trouble.join()
    undisturbed = reward(samples)
    assert interrupted == undisturbed and all(reward.total.value is not None for reward in interrupted)
    said = capfd.readouterr().err
    assert "does not answer" in said and "answers again after" in said
