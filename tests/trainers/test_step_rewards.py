"""Parts of a step are rewarded while the policy draws the next one, with the numbers of one call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from mini_grpo import PROMPTS, TOTALS, FakePolicy, flat, world

from harness.experts.judge.connection import Rejected, ServerGone
from harness.reward.function import RewardFunction
from harness.types import Prompt, Sample, Sampling, Score

PATIENCE_S = 60.0
MAIN = threading.main_thread()


@dataclass
class Watched:
    """A component with the given totals by the place of a sample in the step; notes who calls it with what.

    `before(count)` runs before it answers `count` samples.
    """

    totals: Sequence[float | None] = (0.1, 0.9, 0.4, 0.8, 0.7, 0.2)
    before: Callable[[int], None] = lambda count: None
    needs_certainty: bool = False
    calls: list[tuple[int, bool]] = field(default_factory=list)  # samples, in the main thread
    seen: list[Any] = field(default_factory=list)
    scope: str = "image"
    busy: bool = False

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        assert not self.busy, "one part at a time"
        self.busy = True
        self.calls.append((len(samples), threading.current_thread() is MAIN))
        self.seen += [sample.certainty for sample in samples]
        try:
            self.before(len(samples))
        finally:
            self.busy = False
        return [self._score(self.totals[_place(sample)]) for sample in samples]

    def _score(self, total: float | None) -> Score:
        return Score(value=None, unscored="left out") if total is None else Score(value=total)


class Numbered(FakePolicy):
    """Its samples carry their place in the step; `drawing` is called before every rollout."""

    drawing: Callable[[int], None] = lambda self, number: None

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        assert threading.current_thread() is MAIN
        self.drawing(len(self.asked))
        first = self.drawn
        samples = super().rollout(prompts, seeds, sampling)
        for place, sample in enumerate(samples, start=first):
            sample.image.info["place"] = place % 6
        return samples

    def logprobs(self, *args: Any, **options: Any) -> Any:
        assert threading.current_thread() is MAIN
        return super().logprobs(*args, **options)

    def _measure(self, name: str, values_BT: Any, image_BT: Any) -> Any:
        return values_BT.detach() if name == "certainty" else super()._measure(name, values_BT, image_BT)


def _place(sample: Sample) -> int:
    return int(sample.image.info["place"])


def run(component: Watched, policy: Numbered | None = None, **changes: Any) -> tuple[Any, list[float]]:
    """The metrics of a step, and the weights after it."""
    function = RewardFunction(total="red", components={"red": component})
    one = world(policy=policy or Numbered(), rewards=function, **changes)
    metrics = one.run.step(PROMPTS, 0)
    return {**metrics, "seconds": 0}, flat(one.policy.module)


def test_a_part_is_rewarded_while_the_next_one_is_drawn() -> None:
    second_drawn = threading.Event()
    first_answered = threading.Event()
    answered_meanwhile = []

    def drawing(number: int) -> None:
        if number == 1:
            second_drawn.set()
        if number == 2:
            answered_meanwhile.append(first_answered.wait(PATIENCE_S))

    def before(count: int) -> None:
        assert second_drawn.wait(PATIENCE_S), "the judge is asked only after all parts are drawn"
        first_answered.set()

    policy = Numbered()
    policy.drawing = drawing
    assert run(Watched(before=before), policy, rollout_batch=2) == run(Watched())
    assert answered_meanwhile == [True]


def test_parts_come_one_at_a_time_in_order_and_the_last_one_in_the_main_thread() -> None:
    component = Watched()
    run(component, rollout_batch=2)
    assert component.calls == [(2, False), (2, False), (2, True)]


@pytest.mark.parametrize("size", [None, 6, 100])
def test_a_step_of_one_part_needs_no_thread(size: int | None) -> None:
    component = Watched()
    run(component, rollout_batch=size)
    assert component.calls == [(6, True)]


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_parts_change_no_number(size: int) -> None:
    assert run(Watched(TOTALS), rollout_batch=size) == run(Watched(TOTALS))


def test_certainty_is_measured_by_the_main_thread_in_the_batches_of_the_whole_step() -> None:
    whole, parts = Watched(needs_certainty=True), Watched(needs_certainty=True)
    assert run(parts, rollout_batch=2) == run(whole)
    assert parts.calls == [(6, True)]
    assert parts.seen == whole.seen and None not in parts.seen


@pytest.mark.parametrize("failing", [1, 2, 3], ids=["first part", "second part", "last part"])
def test_the_error_of_a_part_ends_the_step_with_its_message(failing: int) -> None:
    component = Watched()

    def before(count: int) -> None:
        if len(component.calls) == failing:
            raise ServerGone("the server did not come back")

    component.before = before
    with pytest.raises(ServerGone, match="the server did not come back"):
        run(component, rollout_batch=2)
    assert len(component.calls) == failing, "no further part is asked about"


def test_a_refusal_of_a_part_is_decided_over_the_whole_step() -> None:
    """A judge that refuses all of a call ends the run; one that answers others of the call does not."""

    def before(count: int) -> None:
        if count < 6:
            raise Rejected("HTTP 400: too long", for_its_content=True)

    component = Watched(before=before)
    assert run(component, rollout_batch=2) == run(Watched())
    assert component.calls == [(2, False), (6, True)]


def test_a_component_that_is_wrong_about_the_whole_step_is_the_error_of_the_whole_step() -> None:
    def before(count: int) -> None:
        raise ValueError(f"{count} samples are too many")

    with pytest.raises(ValueError, match=r"^6 samples are too many$"):
        run(Watched(before=before), rollout_batch=2)
