"""`python -m benchmarks.shapes.calibration FOLDER`: how far the simulated experts agree with the exact ones.

Reads a folder of samples of the SFT model and finds the settings with which the agreement is what was
published for real experts and people (arXiv 2505.17022, judge reliability). No trained arm takes part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import bisect
from scipy.stats import bootstrap, kendalltau, spearmanr

from benchmarks.shapes.detector import ShapesDetector
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.levels import CALIBRATION
from benchmarks.shapes.oracle import OracleJudge
from benchmarks.shapes.simulated import PREFERENCE, SimulatedJudge
from benchmarks.shapes.simulated_vision import SimulatedSimilarity
from harness.samples import SampleFolder
from harness.types import Detection, Question, Sample

MODELS = 5  # simulated models, one per seed; the agreement is their mean
RESAMPLES = 400  # of the prompts, for a 95 % interval
TOLERANCE = 0.002  # of the factor on the errors

Settings = dict[str, float]
Grades = np.ndarray  # one grade per sample
PairsOf = Callable[[Settings], list[tuple[Grades, Grades]]]  # errors to (exact, simulated), one per model

PICTURE: Settings = {
    "picture_attributes": 0.30,
    "picture_relations": 0.40,
    "picture_spread": 4.0,
    "picture_leniency": 0.0,
}
CHAIN: Settings = {"chain_share": 0.15, "chain_spread": 4.0, "drawn_reversed": 0.10, "written_reversed": 0.40}
CLIP: Settings = {"spread": 0.3}
NO_ERRORS: Settings = dict.fromkeys([*PICTURE, *CHAIN, *PREFERENCE], 0.0)
MOST = {"picture_attributes": 1.0, "chain_share": 1.0} | dict.fromkeys(  # half: blind to the direction
    ["picture_relations", "drawn_reversed", "written_reversed"], 0.5
)
BLIND_PICTURE: Settings = {**PICTURE, "picture_spread": 1000.0}  # grades are noise
BLIND_CHAIN: Settings = {
    "chain_share": 1.0,
    "chain_spread": 1000.0,
    "drawn_reversed": 0.5,
    "written_reversed": 0.5,
}
PICTURE_TARGETS = (0.60, 0.45, 0.31, 0.15)  # 0.31 is published for Qwen2.5-VL-7B
CHAIN_TARGETS = (0.60, 0.45, 0.31, 0.15)
CLIP_TARGETS = (0.18,)  # published for CLIP
KINDS = ("semantic", "drawn", "written")  # the questions about a chain


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A sample and what the exact detector sees in its image."""

    sample: Sample
    facts: Facts
    seen: Sequence[Detection]


def scaled(errors: Settings, factor: float) -> Settings:
    """The errors times a factor, at most as large as they can be, rounded to two digits."""
    return {name: round(min(value * factor, MOST.get(name, np.inf)), 2) for name, value in errors.items()}


def observe(samples: Sequence[Sample]) -> list[Observed]:
    """The samples of the shapes world, in order.

    Raises:
        ValueError: the prompt of a sample is not of this world.
    """
    found = []
    seen = ShapesDetector().detect([sample.image for sample in samples])
    for sample, detections in zip(samples, seen, strict=True):
        facts = Facts.read(sample.prompt.facts)
        if facts is None:
            raise ValueError(f"prompt {sample.prompt.id} is not of the shapes world: give samples of it")
        found.append(Observed(sample=sample, facts=facts, seen=detections))
    return found


def image_grades(judge: OracleJudge, observed: Sequence[Observed]) -> Grades:
    """The judge's grades of the images."""
    grades = []
    for one in observed:
        prompt, image = one.sample.prompt, one.sample.image
        grades.append(judge.grade_image(prompt, one.facts, image, one.seen)[1])
    return np.array(grades)


def chain_grades(judge: OracleJudge, observed: Sequence[Observed], kind: str) -> Grades:
    """The judge's grades of the chains' words (`semantic`) or layouts (`drawn` or `written`)."""
    grades = []
    for one in observed:
        images = (one.sample.image,) if kind == "drawn" else ()  # that there is a drawing is all that counts
        asked = Question(kind="semantic" if kind == "semantic" else "spatial", text="", images=images)
        grades.append(judge.grade_chain(asked, one.sample.prompt, one.facts, one.sample.chain)[0])
    return np.array(grades)


class Agreement:
    """How far experts with given errors agree with the exact ones on a set of samples."""

    def __init__(self, observed: Sequence[Observed]) -> None:
        self.observed = observed
        exact = OracleJudge()
        self.exact = {"picture": image_grades(exact, observed)}
        for kind in KINDS:
            self.exact[kind] = chain_grades(exact, observed, kind)
        prompts: dict[str, list[int]] = {}
        for index, one in enumerate(observed):
            prompts.setdefault(one.sample.prompt.id, []).append(index)
        self.prompts = [np.array(rows) for rows in prompts.values()]

    def picture(self, settings: Settings) -> list[tuple[Grades, Grades]]:
        """The (exact, simulated) grades of the images, for each simulated model."""
        return [(self.exact["picture"], image_grades(judge, self.observed)) for judge in _judges(settings)]

    def chain(self, kind: str, settings: Settings) -> list[tuple[Grades, Grades]]:
        """The same for the words or layouts of the chains."""
        return [(self.exact[kind], chain_grades(judge, self.observed, kind)) for judge in _judges(settings)]

    def chains(self, settings: Settings) -> list[tuple[Grades, Grades]]:
        """The same for the two questions that the paper's reward asks about a chain."""
        return self.chain("semantic", settings) + self.chain("drawn", settings)

    def clip(self, settings: Settings) -> list[tuple[Grades, Grades]]:
        """Exact grades of the images and simulated similarities, for each simulated model."""
        pairs = []
        for seed in range(MODELS):
            clip = SimulatedSimilarity(seed=seed, **settings)
            values = [clip.fit(one.sample.image, one.sample.prompt.text, one.seen) for one in self.observed]
            pairs.append((self.exact["picture"], np.array(values, float)))
        return pairs

    def measured(self, pairs: Sequence[tuple[Grades, Grades]]) -> dict[str, Any]:
        """Kendall's tau-b with its 95 % interval over prompts, and Spearman's rho."""
        interval = bootstrap(
            (np.arange(len(self.prompts)),),
            lambda chosen: tau(pairs, np.concatenate([self.prompts[index] for index in chosen])),
            n_resamples=RESAMPLES,
            method="percentile",
            vectorized=False,
            random_state=0,
        ).confidence_interval
        rho = np.mean([spearmanr(*pair).statistic for pair in pairs])
        return {
            "tau": round(tau(pairs), 3),
            "interval": [round(float(bound), 3) for bound in interval],
            "spearman": round(float(rho), 3),
        }


def tau(pairs: Sequence[tuple[Grades, Grades]], rows: Any = slice(None)) -> float:
    """The mean of Kendall's tau-b over pairs of (exact, simulated) grades, on some of the samples."""
    return float(np.mean([kendalltau(exact[rows], other[rows]).statistic for exact, other in pairs]))


def settings_for(target: float, errors: Settings, pairs_of: PairsOf) -> Settings:
    """The errors times the factor with which tau is the target.

    Raises:
        ValueError: no factor reaches the target on these samples.
    """

    def excess(factor: float) -> float:
        return tau(pairs_of(scaled(errors, factor))) - target

    most = 1.0
    while excess(most) > 0:
        most *= 2
        if most > 64:
            raise ValueError(f"no errors in the direction {errors} lower tau to {target}: give other samples")
    if excess(0) < 0:
        raise ValueError(f"tau is below {target} without any of the errors {errors}: give other samples")
    return scaled(errors, bisect(excess, 0, most, xtol=TOLERANCE))


def levels(agreement: Agreement) -> dict[str, list[dict[str, Any]]]:
    """The settings of each part and level, with the agreement that they have.

    A level without a target is measured only: the assumed errors on chains, and judges that are blind.
    """
    picture, chain, clip = [], [], []
    for target, settings in _wanted(PICTURE, PICTURE_TARGETS, agreement.picture, [BLIND_PICTURE]):
        picture.append(_level(target, settings, agreement.measured(agreement.picture(settings))))
    for target, settings in _wanted(CHAIN, CHAIN_TARGETS, agreement.chains, [CHAIN, BLIND_CHAIN]):
        level = _level(target, settings, agreement.measured(agreement.chains(settings)))
        chain.append(level | {kind: agreement.measured(agreement.chain(kind, settings)) for kind in KINDS})
    for target, settings in _wanted(CLIP, CLIP_TARGETS, agreement.clip, []):
        clip.append(_level(target, settings, agreement.measured(agreement.clip(settings))))
    return {"picture": picture, "chain": chain, "clip": clip}


def main(argv: Sequence[str] | None = None) -> None:
    """Calibrates on a folder of samples, prints the levels and writes `calibration.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes.calibration", description=__doc__)
    parser.add_argument("folder", type=Path, help="samples of the SFT model's dev prompts (see docs)")
    parser.add_argument("--out", type=Path, default=CALIBRATION, help="default: %(default)s")
    given = parser.parse_args(argv)
    agreement = Agreement(observe(list(SampleFolder(given.folder).read())))
    found = levels(agreement)
    result = {
        "samples": len(agreement.observed),
        "prompts": len(agreement.prompts),
        "samples_sha256": sha256(SampleFolder(given.folder).index.read_bytes()).hexdigest(),
        "simulated_models": MODELS,
        "levels": found,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    for part, rows in found.items():
        for level in rows:
            low, high = level["interval"]
            print(f"{part:8} tau {level['tau']:.3f} [{low:.3f}, {high:.3f}]  {level['settings']}")


def _judges(settings: Settings) -> list[SimulatedJudge]:
    return [SimulatedJudge(seed=seed, **{**NO_ERRORS, **settings}) for seed in range(MODELS)]


def _wanted(
    errors: Settings, targets: Sequence[float], pairs_of: PairsOf, others: Sequence[Settings]
) -> list[tuple[float | None, Settings]]:
    """(target, settings) of every level of a part: the settings found for its targets, and others."""
    found: list[tuple[float | None, Settings]] = []
    for target in targets:
        found.append((target, settings_for(target, errors, pairs_of)))
    return [*found, *((None, settings) for settings in others)]


def _level(target: float | None, settings: Settings, measured: Mapping[str, Any]) -> dict[str, Any]:
    return {"target": target, "settings": settings, **measured}


if __name__ == "__main__":
    main()
