"""The design of a study before it runs: which difference of two arms it can detect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.contrasts import Contrast, Spread, seed_effects
from harness.analysis.results import StudyResult
from harness.analysis.study import Analysis

# In units of a score from 0 to 1, measured in reports/reward_components, with one image per prompt.
PRIOR_PROMPT_SD = 0.40  # of the difference of two arms over the prompts of a category; 0.36 to 0.49 by pair
PRIOR_RUN_SD = 0.023  # of the mean over categories, over runs: full minus w_PI was +0.024 and -0.009


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """Standard deviations of the difference of two arms.

    `prompt` is that over the prompts of a category, without the part of its images; `image` that over the
    images of a prompt, 0 where it was measured with one image per prompt and is part of `prompt`; `run` that
    of the mean difference over training runs. `source` says where they come from.
    """

    prompt: float
    image: float
    run: float
    source: str


PRIOR = Deviations(
    prompt=PRIOR_PROMPT_SD,
    image=0.0,
    run=PRIOR_RUN_SD,
    source=(
        f"assumed, as in reports/reward_components: {PRIOR_PROMPT_SD:g} over prompts, {PRIOR_RUN_SD:g} over"
        " training runs"
    ),
)


def expected_spread(deviations: Deviations, prompts: Mapping[str, int], *, images: int, seeds: int) -> Spread:
    """Return the standard errors that a study will have.

    Args:
        deviations: measured or assumed.
        prompts: category -> number of prompts.
        images: per prompt and seed.
        seeds: training runs per arm.
    """
    variance = deviations.prompt**2 + deviations.image**2 / (images * seeds)
    shares = sum(1 / count for count in prompts.values()) / len(prompts) ** 2
    return Spread(
        prompt_error=math.sqrt(variance * shares),
        prompt_df=sum(prompts.values()) - len(prompts),
        run_error=deviations.run / math.sqrt(seeds) if seeds > 1 else None,
        seeds=seeds,
    )


def measured_deviations(study: StudyResult) -> Deviations | None:
    """Return the deviations between the baseline (else the first arm) and the other arms of a study.

    None unless two arms are measured in every category, and in a study of votes, which has no scores.
    """
    analysis = Analysis(study)
    if analysis.preference:
        return None
    reference = analysis.baseline if analysis.baseline in analysis.arms else analysis.arms[0]
    prompt, image, run = [], [], []
    for arm in analysis.arms:
        contrast = Contrast(arm, reference, analysis.categories)
        if arm == reference or not analysis.categories or analysis.why_missing(contrast):
            continue
        strata = list(analysis.differences(contrast).values())
        if any((np.count_nonzero(~np.isnan(values), axis=1) < 2).any() for values in strata):
            continue
        images, of_means = np.sum([_image_variances(analysis, name) for name in (arm, reference)], axis=0)
        total = np.mean([np.nanvar(values, axis=1, ddof=1).mean() for values in strata])
        prompt.append(max(0.0, float(total) - of_means))
        image.append(images)
        run.append(float(seed_effects(strata).var(ddof=1)) if len(study.seeds) > 1 else PRIOR_RUN_SD**2)
    if not prompt:
        return None
    found = Deviations(
        prompt=math.sqrt(np.mean(prompt)),
        image=math.sqrt(np.mean(image)),
        run=math.sqrt(np.mean(run)),
        source="",
    )
    assumed = "" if len(study.seeds) > 1 else " (assumed, as that study has one seed)"
    source = f"measured in the study {study.name}: {found.prompt:.2g} over prompts, "
    source += f"{found.image:.2g} over the images of a prompt, " if found.image else ""
    return replace(found, source=f"{source}{found.run:.2g} over training runs{assumed}")


def _image_variances(analysis: Analysis, arm: str) -> tuple[float, float]:
    """Return the variance of an arm's scores over the images of a prompt, and that of the mean of its images.

    Both are 0 with one image per prompt.
    """
    scores: dict[tuple[int, str], list[float]] = {}
    for cell in analysis.measured_cells(arm):
        for row in cell.scores or ():
            if row.value is not None:
                scores.setdefault((cell.seed, row.prompt_id), []).append(row.value)
    several = [values for values in scores.values() if len(values) > 1]
    if not several:
        return 0.0, 0.0
    variances = np.array([np.var(values, ddof=1) for values in several])
    return float(variances.mean()), float(np.mean(variances / list(map(len, several))))
