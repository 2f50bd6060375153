"""The vocabulary: frozen dataclasses that pass between the parts, without behavior beyond their own geometry.

Units: a `Region` or `Box` is on the 0..1000 scale of the canvas (x right, y down), whatever the image's size
in pixels; rewards and scores are in [0, 1]; a value of None means *unscored*, never zero.
Shape letters in the code: B samples, T tokens, V vocabulary, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Config = Mapping[str, Any]  # the resolved configuration of a cell, plain values

CANVAS = 1000  # boxes are integers on 0..CANVAS, GoT-R1's coordinate scale


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One request for an image.

    `facts` hold what a benchmark knows about the prompt, as plain JSON values; only that benchmark's scorers
    and oracles read them. `number` is the index of the image among those of its prompt, from 0: a model may
    ignore it, since every image has its own seed; detections made elsewhere are looked up by it.
    """

    id: str
    text: str
    category: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True)
class Region:
    """Axis-aligned rectangle on the canvas scale, as a detector finds it: any corners, the first top left."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def area(self) -> float:
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    @property
    def center(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def iou(self, other: Region) -> float:
        """Intersection over union on continuous coordinates; 0 when both are empty."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        shared = max(width, 0) * max(height, 0)
        union = self.area + other.area - shared
        return shared / union if union else 0.0


@dataclass(frozen=True)
class Box(Region):
    """The regions that a chain can write: integers, 0 <= x1 <= x2 <= 1000 and 0 <= y1 <= y2 <= 1000."""

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        if not (0 <= self.x1 <= self.x2 <= CANVAS and 0 <= self.y1 <= self.y2 <= CANVAS):
            raise ValueError(
                f"box ({self.x1},{self.y1}),({self.x2},{self.y2}) is not within 0..{CANVAS}"
                " with its first corner top left"
            )


@dataclass(frozen=True, kw_only=True)
class PlannedObject:
    """An object of a chain; `box` is None where the chain gave it no readable box."""

    name: str
    box: Box | None


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A parsed Generation Chain-of-Thought: see `harness.chain` for the grammar.

    `text` is the chain as sampled; `bare_text` is the same without tags and boxes, for the semantic reward;
    `faults` names every violation of the grammar, in order.
    """

    text: str
    objects: tuple[PlannedObject, ...]
    bare_text: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SampledChain:
    """A chain as a policy sampled it.

    `ids` end with begin-of-image, and `forced_end` is as in `Tokens`. `logprobs` has one value per id, under
    the distribution that was sampled from; 0.0 at a forced begin-of-image.
    """

    chain: Chain
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    forced_end: bool = False


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The ids of one sequence in the order the model sees them: prompt, chain, image.

    `chain` ends with begin-of-image. `forced_end` says that this last id was appended at the length
    limit and not sampled: it is not an action and carries no gradient.
    """

    prompt: tuple[int, ...]
    chain: tuple[int, ...]
    image: tuple[int, ...]
    forced_end: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What an image is drawn from: a prompt, and a chain that is given instead of sampled.

    The ids of a `SampledChain` are taken as they are. A text ends with begin-of-image, and the policy's
    tokenizer turns it into ids. `caption` stands in the template in place of the prompt's text.
    """

    prompt: Prompt
    chain: SampledChain | str
    caption: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One rollout: prompt, chain and image, with the ids and log-probs behind them.

    `logprobs` has one value per chain id and then per image id, under the distribution that was
    sampled from (temperature and guidance applied); 0.0 at a forced begin-of-image. `seed` is None for an
    image made elsewhere with an unknown seed. `certainty` has one value per id too, the `certainty` of
    `TokenLogprobs`; None where no reward component asked for it.
    """

    prompt: Prompt
    chain: Chain
    image: Image
    tokens: Tokens
    logprobs: tuple[float, ...]
    seed: int | None
    certainty: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How rollouts are drawn (the `rollout` settings, which `harness.settings.check_rollout` checks).

    `guidance` <= 1 draws conditional rows only. Temperature 0 is greedy. `max_chain_tokens` 0 draws no
    chain: begin-of-image follows the prompt at once (plain Janus).

    `random` is `per_sample`: one generator per sample, so that results do not depend on the batch. Or it is
    `upstream`, as in GoT-R1's script: consecutive equal (prompt, seed) pairs are one call of the script. They
    share one chain and draw their images from one stream, which is seeded again for every call.
    """

    guidance: float = 1.0
    text_temperature: float = 1.0
    image_temperature: float = 1.0
    max_chain_tokens: int = 600
    random: Literal["per_sample", "upstream"] = "per_sample"


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probs of the ids of a batch: `values_BT`, and boolean masks of the same shape.

    Column t of row b is the t-th id of that row's chain followed by its image; `action_BT` is False at
    padding and at a forced begin-of-image; `image_BT` marks image ids.

    `measures` hold what `Policy.logprobs` was asked to measure of the distributions, by name: [B, T] in
    float32, without gradient, 0 where there is no action.

    - `entropy`: of the distribution that scored the id, in nats;
    - `certainty`: KL(uniform || that distribution), in nats;
    - `contrast`: log-prob of the id under the unconditional row minus that under the conditional row, for
      image ids under guidance > 1; 0 elsewhere.
    """

    values_BT: torch.Tensor
    action_BT: torch.Tensor
    image_BT: torch.Tensor
    measures: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record of GoT training data: a prompt with the chain and image to imitate.

    `faithful` is False where chain and image agree with each other but not with the prompt.
    """

    prompt: Prompt
    chain: str
    image: Image
    faithful: bool = True


@dataclass(frozen=True, kw_only=True)
class Score:
    """A value in [0, 1] with its evidence, or unscored: `value` None, and the reason in `unscored`."""

    value: float | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    unscored: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.unscored is not None):
            raise ValueError(f"a score has a value or a reason why not: {self.value=}, {self.unscored=}")


@dataclass(frozen=True, kw_only=True)
class Reward:
    """The total of one sample and the raw score of every component that entered it."""

    total: Score
    components: Mapping[str, Score]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What a stage of one scored sample is rewarded for: its total, and the components in that total."""

    total: float
    components: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The N samples of one prompt and their rewards, in the same order."""

    prompt: Prompt
    samples: tuple[Sample, ...]
    rewards: tuple[Reward, ...]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """An object in an image: its label in the detector's spelling, its box, its confidence in [0, 1]."""

    label: str
    box: Box
    score: float


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The detections of many classes in one image, by falling score, as three tuples of equal length.

    `frame` is the width and height, in pixels, of the image that the detector received; `boxes` are
    x1, y1, x2, y2 in it. A box may occur several times, with different labels.
    """

    frame: tuple[int, int]
    labels: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.boxes) == len(self.scores):
            raise ValueError(
                f"{len(self.labels)} labels, {len(self.boxes)} boxes and {len(self.scores)} scores:"
                " each box must have one label and one score"
            )


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric of a category's scores. Numbers of different metrics never stand in one column.

    `name` is the field's name for it; `labels` tell a reader how it was computed ("mode=official",
    "np=rules", "213 of 300 prompts").
    """

    name: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question to a judge. `kind` is its subject: semantic, spatial, prompt_image, grounding, preference.

    A model receives `text` and `images` only: the first `lead` characters of the text, which are equal for
    all questions of a rubric (so that a server computes them once), then the images, then the rest.
    `facts` carry the structured truth, which only an oracle reads: `prompt`, a Prompt; `chain`, a Chain if
    there is one; `first` and `second` for two chains. `scored` asks for a score from 0 to 10. `attempt`
    counts the earlier attempts: from 1 on, a judge may sample its answer, so that another one can come.
    """

    kind: str
    text: str
    images: tuple[Image, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    lead: int = 0
    scored: bool = True
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A judge's answer: its raw `text`, and `finish` in the terms of servers (stop, length, refusal, ...).

    `expected` is the mean score on 0..10 under the model's own distribution, where the judge computes it;
    `mass` is the probability of all scores together. `failure` is the reason for no answer; such a question
    is not asked again.
    """

    text: str | None
    finish: str = "stop"
    expected: float | None = None
    mass: float | None = None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One cached step of a cell, as plain data that holds everything that decides its numbers.

    `program` is a dotted path to `f(work: Workspace, settings: dict, inputs: dict[str, Path]) -> None`,
    which fills `work.folder`; it is imported only when the stage runs, so planning needs no torch.
    `settings` are plain JSON values; the program makes components of the `_target_` entries in them.
    `inputs` are the stages whose folders it reads; `external` are files or folders outside the project whose
    contents count (a checkpoint, a prompt file). `parallel` is the number of items of a step, which the
    processes must divide evenly; 0 means any number of processes, None a single process. It does not decide
    the numbers: those are equal up to rounding for any number of processes. `halves` says that two processes
    compute them with the bits of one, because one does the work of both, half after half. So an idle core of
    this machine may help.
    """

    name: str
    program: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    parallel: int | None = None
    halves: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm x seed of a study: its resolved settings and its stages, in the order they run.

    A cell with a `pair` compares the chains of two arms; its `arm` names both.
    """

    id: str
    arm: str
    seed: int
    overrides: tuple[str, ...]
    config: Mapping[str, Any]
    stages: tuple[Stage, ...]
    pair: tuple[str, str] | None = None
