"""The policy that is trained, beside its frozen start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.composition.components import make
from harness.seeds import derive
from harness.trainers import lora

if TYPE_CHECKING:
    from harness.protocols import Policy

Reference = Callable[[], "AbstractContextManager[Policy]"]  # opens a context with the frozen start


def load(
    settings: Mapping[str, Any], adapters: Mapping[str, Any] | None, start: Path, seed: int
) -> tuple[Policy, Reference]:
    """The policy to train and its frozen start.

    For full weights the start is a second copy of the model, loaded when it is asked for first; for LoRA it
    is the policy without adapters.

    Args:
        settings: of the policy.
        adapters: `lora`; None: full weights.
        start: the checkpoint.
        seed: of the run, for the adapters.
    """
    recipe = make(settings)
    policy = recipe.load(start, trainable=True)
    if not adapters:
        return policy, _Copy(partial(recipe.load, start))
    torch.manual_seed(derive(seed, "lora"))
    lora.add(policy.module, **adapters)
    return policy, partial(_without_adapters, policy)


class _Copy:
    """A second copy of a policy, loaded at the first use: a run without KL never needs it."""

    def __init__(self, load: Callable[[], Policy]) -> None:
        self._load = load
        self._policy: Policy | None = None

    def __call__(self) -> AbstractContextManager[Policy]:
        if self._policy is None:
            self._policy = self._load()
        return nullcontext(self._policy)


@contextmanager
def _without_adapters(policy: Policy) -> Iterator[Policy]:
    with lora.switched_off(policy.module):
        yield policy


def write_checkpoint(policy: Policy, checkpoint: Path, *, has_adapters: bool) -> None:
    """Writes the trained policy. Adapters are written to `lora/` first, then folded into the weights."""
    if has_adapters:
        lora.write(policy.module, checkpoint / "lora")
        lora.merge(policy.module)
    policy.save(checkpoint)
