"""Random draws of a rollout whose steps are reported, for a display of progress."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from policies.janus.draw import ALL, Draw, Rows

OnStep = Callable[[str, int, int], None]  # part, steps done, steps at most


class Watched:
    """The same draws, each reported to `on_step`."""

    def __init__(self, draws: Draw, on_step: OnStep, *, chain: int, image: int) -> None:
        self._draws, self._on_step = draws, on_step
        self._chain, self._image = chain, image

    def chain(self, logits: Tensor, step: int, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        self._on_step("chain", step + 1, self._chain)
        return self._draws.chain(logits, step, rows)

    def image(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        self._on_step("image", step + 1, self._image)
        return self._draws.image(logits, step)
