"""The `policies=images` component."""

from __future__ import annotations

from harness.paths import user_path
from harness.protocols import ImageSource
from harness.settings import flag, number, text
from harness.types import Config, Stage
from policies.images.listing import choose, find


class Pictures(ImageSource):
    """A folder of images made elsewhere, with or without chains. `policies.images.folder` describes its
    layouts.

    Args:
        folder: the folder. Required.
        allow_partial: score the complete prompts of a set with errors, and note it, instead of rejecting
            the set. Sizes that differ stay an error.
        mixed_sizes: the images of one set may differ in size.
        guidance: the guidance scale of the model that made them; None: not known.
        rewriting: the rewriter of the prompts ("none", "gpt-4o"); None: not known.

    Raises:
        ValueError: a setting has a value that is not allowed.
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
                "policies=images needs policies.folder=FOLDER, with samples/PROMPT_000000.png and so on"
            )
        for name, value in (("allow_partial", allow_partial), ("mixed_sizes", mixed_sizes)):
            flag(f"policies.{name}", value)
        if guidance is not None:
            number("policies.guidance", guidance, hint=", or null if it is not known")
        if rewriting is not None:
            text("policies.rewriting", rewriting, hint=" such as none or gpt-4o, or null if it is not known")
        self._settings = {
            "folder": str(user_path(folder).resolve()),
            "allow_partial": allow_partial,
            "mixed_sizes": mixed_sizes,
            "guidance": guidance,
            "rewriting": rewriting,
        }

    def samples(self, config: Config) -> Stage:
        """Return the stage `samples`, which checks every image and lists the images to score.

        Raises:
            ValueError: names and numbers show already that the set cannot be scored; lists the errors.
        """
        evaluation = config["evaluation"]
        settings = {
            **self._settings,
            "benchmark": config["benchmarks"],
            "split": evaluation["split"],
            "images_per_prompt": evaluation["images_per_prompt"],
        }
        image_set = find(settings)
        choose(settings, image_set, image_set.findings)
        sources: dict[str, None] = {}
        for group in image_set.groups.values():
            sources |= dict.fromkeys(map(str, group.sources))
        return Stage(
            name="samples",
            program="policies.images.listing.list_images",
            settings=settings,
            external=tuple(sources),
        )
