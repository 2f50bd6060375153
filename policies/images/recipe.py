"""The `policies=images` component."""

from __future__ import annotations

import math
from pathlib import Path

from harness.protocols import Config
from harness.types import Stage
from policies.images.gather import find, take


class Pictures:
    """A folder of pictures made elsewhere, with or without chains (`policies.images.folder` says how it looks).

    Args:
        folder: the folder; None is refused with what to give.
        allow_partial: take the prompts that are complete and say so, where a set with errors would be refused.
        mixed_sizes: pictures of one set may differ in size.
        guidance: how strongly the prompt guided the model that made them; None: not known.
        rewriting: by what prompts were rewritten before ("none", "gpt-4o"); None: not known.

    Raises:
        ValueError: a setting is none of these.
    """

    trainable = False

    def __init__(
        self,
        *,
        folder: str | None,
        allow_partial: bool,
        mixed_sizes: bool,
        guidance: float | None,
        rewriting: str | None,
    ) -> None:
        if not folder:
            raise ValueError(
                "policies=images needs policies.folder=FOLDER, which holds samples/PROMPT_000000.png and so on"
            )
        for name, value in (("allow_partial", allow_partial), ("mixed_sizes", mixed_sizes)):
            if not isinstance(value, bool):
                raise ValueError(f"policies.{name}={value!r}: give true or false")
        if guidance is not None and (
            isinstance(guidance, bool) or not isinstance(guidance, int | float) or not math.isfinite(guidance)
        ):
            raise ValueError(
                f"policies.guidance={guidance!r}: give the number that the pictures were made with, or null if it is not known"
            )
        if rewriting is not None and (not isinstance(rewriting, str) or not rewriting.strip()):
            raise ValueError(
                f"policies.rewriting={rewriting!r}: give a text such as none or gpt-4o, or null if it is not known"
            )
        self._settings = {
            "folder": str(Path(folder).resolve()),
            "allow_partial": allow_partial,
            "mixed_sizes": mixed_sizes,
            "guidance": guidance,
            "rewriting": rewriting,
        }

    def samples(self, config: Config) -> Stage:
        """The stage `samples`, which looks into every picture and lists those that are to be scored.

        Raises:
            ValueError: names and numbers tell already that the set is not fit to be scored; lists what is wrong.
        """
        evaluation = config["evaluation"]
        settings = {
            **self._settings,
            "benchmark": config["benchmarks"],
            "split": evaluation["split"],
            "images_per_prompt": evaluation["images_per_prompt"],
        }
        there = find(settings)
        take(settings, there, there.findings)
        parts = dict.fromkeys(str(part) for shelf in there.found.values() for part in shelf.parts)
        return Stage(
            name="samples", program="policies.images.gather.gather", settings=settings, external=tuple(parts)
        )
