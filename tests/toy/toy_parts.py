"""A world without torch, as a third party would bring it: policy, trainer, benchmark and reward,
all tiny and exact.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from harness.chain import parse
from harness.protocols import Benchmark, Policy, PolicyRecipe, Trainer
from harness.types import Chain, Drawing, Metric, Prompt, Sample, Score, Stage, Tokens


class ToyPolicy(PolicyRecipe, Policy):
    """Its whole weight is one number, and it answers every prompt with a grey square of that brightness.

    From a given chain it draws a square as bright as the chain is long.
    """

    writes_chains = True

    def __init__(self, *, start: float) -> None:
        if not 0 <= start <= 1:
            raise ValueError(f"policies.start={start}: give a brightness from 0 to 1")
        self._start = start

    def start(self, config: dict[str, Any]) -> Stage:
        return Stage(name="base", program="toy_parts.build", settings={"start": self._start})

    def load(self, folder: Path, *, trainable: bool = False) -> ToyPolicy:
        self.weight = json.loads((folder / "weight.json").read_text())
        return self

    def rollout(self, prompts: list[Prompt], seeds: list[int], sampling: Any) -> list[Sample]:
        return [self._draw(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def draw(self, drawings: list[Drawing], seeds: list[int], sampling: Any) -> list[Sample]:
        samples = []
        for drawing, seed in zip(drawings, seeds, strict=True):
            image = Image.new("RGB", (4, 4), (min(len(drawing.chain), 255),) * 3)
            samples.append(replace(self._draw(drawing.prompt, seed), chain=parse(drawing.chain), image=image))
        return samples

    def _draw(self, prompt: Prompt, seed: int) -> Sample:
        grey = round(255 * min(1.0, max(0.0, self.weight + (seed % 7) / 100)))
        return Sample(
            prompt=prompt,
            chain=Chain(text=f"grey {grey}", objects=(), bare_text=f"grey {grey}"),
            image=Image.new("RGB", (4, 4), (grey,) * 3),
            tokens=Tokens(prompt=(1,), chain=(2,), image=(3,)),
            logprobs=(0.0, 0.0),
            seed=seed,
        )


class ToyTrainer(Trainer):
    """Two stages: `warm` is the same for all cells, `climb` moves the weight by the reward, with checkpoints.

    While the file that the environment variable TOY_HOLD names exists, training waits after its step.

    Args:
        fault: `raise`, or `kill-once` (the process kills itself half-way, the first time), at `climb`.
    """

    def __init__(self, *, steps: int, pause_s: float, climb: bool, fault: str | None) -> None:
        self._settings = {"steps": steps, "pause_s": pause_s}
        self._climb, self._fault = climb, fault

    def stages(self, config: dict[str, Any], start: Stage) -> list[Stage]:
        warm = Stage(
            name="warm",
            program="toy_parts.train",
            settings={**self._settings, "gain": 0.01, "seed": 0},
            inputs={"start": start},
        )
        if not self._climb:
            return [warm]
        settings = {
            **self._settings,
            "gain": config["rewards"]["components"]["glow"]["gain"],
            "seed": config["seed"],
            "fault": self._fault,
        }
        return [
            warm,
            Stage(name="climb", program="toy_parts.train", settings=settings, inputs={"start": warm}),
        ]


class BrokenWarm(ToyTrainer):
    """Its first stage, which all cells share, always fails."""

    def stages(self, config: dict[str, Any], start: Stage) -> list[Stage]:
        return [Stage(name="warm", program="toy_parts.refuse", settings={}, inputs={"start": start})]


class ToyBenchmark(Benchmark):
    categories = ("bright", "dark")

    def __init__(self, *, prompts: int) -> None:
        self._count = prompts

    def prompts(self, split: str) -> list[Prompt]:
        return [
            Prompt(id=f"{split}-{n}", text=f"square {n}", category=self.categories[n % 2])
            for n in range(self._count)
        ]

    def score(self, samples: list[Sample]) -> list[Score]:
        values = [sample.image.getpixel((0, 0))[0] / 255 for sample in samples]
        return [
            Score(value=value if one.prompt.category == "bright" else 1 - value)
            for one, value in zip(samples, values, strict=True)
        ]


class ToyMeasured(ToyBenchmark):
    """Scores the brightness of the left half: mirrored, the right half's. Prompts of dark have no
    side; pictures without red are unscored.

    While the file that TOY_HOLD names exists, scoring waits after its first call.

    Args:
        blind: it scores both halves.
    """

    images_per_prompt = 2
    first_seed = 42

    def __init__(self, *, prompts: int, blind: bool) -> None:
        super().__init__(prompts=prompts)
        self._blind, self._calls = blind, 0
        self.metrics = {
            "bright": Metric(name="brightness", labels=("mode=toy",)),
            "dark": Metric(name="darkness"),
        }

    def score(self, samples: list[Sample]) -> list[Score]:
        while self._calls and _is_held():
            time.sleep(0.02)
        self._calls += 1
        return [self._score(sample, sample.image) for sample in samples]

    def mirrored(self, samples: list[Sample]) -> list[Score | None]:
        flipped = [ImageOps.mirror(sample.image) for sample in samples]
        return [
            self._score(one, image) if one.prompt.category == "bright" else None
            for one, image in zip(samples, flipped, strict=True)
        ]

    def _score(self, sample: Sample, image: Any) -> Score:
        left, right = (image.getpixel((at, 0))[0] / 255 for at in (0, image.width - 1))
        if left + right == 0:
            return Score(value=None, unscored="there is no light")
        box = {"label": "light", "score": left, "box": [0, 0, image.width / 2, image.height]}
        evidence = {"boxes": [box], "frame": list(image.size)}
        value = (left + right) / 2 if self._blind else left
        return Score(value=value if sample.prompt.category == "bright" else 1 - value, evidence=evidence)

    def write_results(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "answers.json").write_text(json.dumps([row["value"] for row in rows]))

    def read_results(self, folder: Path) -> list[tuple[Prompt, Score]]:
        wanted = [
            replace(prompt, number=number)
            for prompt in self.prompts("val")
            for number in range(self.images_per_prompt)
        ]
        answers = json.loads((folder / "answers.json").read_text())
        scores = [
            Score(value=value) if value is not None else Score(value=None, unscored="no answer")
            for value in answers
        ]
        return list(zip(wanted, scores, strict=True))


class Glow:
    name = "glow"
    scope = "image"

    def __init__(self, *, gain: float) -> None:
        if gain < 0:
            raise ValueError(f"gain={gain}: give a number from 0")
        self.gain = gain

    def __call__(self, samples: list[Sample]) -> list[Score]:
        return [Score(value=min(1.0, self.gain)) for _ in samples]


def refuse(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    raise LookupError("no such animal")


def build(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    _save(work.folder, 0, settings["start"])


def train(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    state = work.folder / "state.json"
    step, weight = (
        json.loads(state.read_text())
        if state.exists()
        else (0, json.loads(_weight(inputs["start"]).read_text()))
    )
    while step < settings["steps"]:
        if settings.get("fault") == "raise" and step == 2:
            raise RuntimeError("the toy was told to fail")
        if settings.get("fault") == "kill-once" and step == 5 and not (work.folder / "killed").exists():
            (work.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(settings["pause_s"])
        step, weight = step + 1, weight + settings["gain"] / settings["steps"] + settings["seed"] * 1e-4
        work.progress(step, settings["steps"], {"reward": round(weight, 6)})
        while _is_held():
            time.sleep(0.02)
            work.progress(step, settings["steps"])
        if step % 2 == 0:
            temporary = work.folder / "state.new"
            temporary.write_text(json.dumps([step, weight]))
            temporary.replace(state)
    _save(work.folder, step, weight)


def _is_held() -> bool:
    return bool(os.environ.get("TOY_HOLD")) and Path(os.environ["TOY_HOLD"]).exists()


def _save(folder: Path, step: int, weight: float) -> None:
    _weight(folder).parent.mkdir(exist_ok=True)
    _weight(folder).write_text(json.dumps(weight))


def _weight(folder: Path) -> Path:
    return folder / "checkpoint" / "weight.json"
