"""The `policies=images` component."""

from __future__ import annotations

from pathlib import Path

from harness.protocols import ImageSource
from harness.settings import flag, number, text
from harness.types import Config, Stage
from policies.images.gather import find, take


class Pictures(ImageSource):
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
            flag(f"policies.{name}", value)
        if guidance is not None:
            number("policies.guidance", guidance, hint=", or null if it is not known")
        if rewriting is not None:
            text("policies.rewriting", rewriting, hint=" such as none or gpt-4o, or null if it is not known")
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
