"""The `policies=images` component."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.protocols import Config
from harness.types import Stage
from policies.pictures.gather import choose

if TYPE_CHECKING:
    from policies.pictures.policy import PicturePolicy


class Pictures:
    """A folder of pictures made elsewhere, with or without chains (`policies.pictures.folder` says how it looks).

    Args:
        folder: the folder; None is refused with what to give.
    """

    trainable = False

    def __init__(self, *, folder: str | None) -> None:
        if not folder:
            raise ValueError("policies=images needs policies.folder=FOLDER, which holds samples/PROMPT_000000.png and so on")
        self._folder = folder

    def start(self, config: Config) -> Stage:
        """The stage `pictures`, which reads all that will be asked for.

        Raises:
            ValueError: pictures are missing; it names the first of them.
        """
        evaluation = config["evaluation"]
        settings = {
            "folder": self._folder,
            "benchmark": config["benchmarks"],
            "split": evaluation["split"],
            "images_per_prompt": evaluation["images_per_prompt"],
        }
        _, parts = choose(settings)
        return Stage(name="pictures", program="policies.pictures.gather.gather", settings=settings, external=parts)

    def load(self, folder: Path, *, trainable: bool = False) -> PicturePolicy:
        from policies.pictures.policy import PicturePolicy

        assert not trainable, "the plan refuses to train it"
        return PicturePolicy(folder)
