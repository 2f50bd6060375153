"""The `policies=diffusers` component. It needs no torch before an image is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.names import HUB_ID
from harness.protocols import PolicyRecipe
from harness.settings import choice, number, whole_number
from harness.types import Config, Stage

if TYPE_CHECKING:
    from policies.pipelines.policy import PipelinePolicy

DTYPES = ("float32", "bfloat16", "float16")
PLACEMENTS = ("whole", "models", "layers")


class Pipeline(PolicyRecipe):
    """A pipeline by hub id or folder, and its settings. It writes no chain and has its own guidance.

    Args:
        pipeline: hub id (OWNER/NAME), or a folder in the layout of `save_pretrained`.
        revision: branch, tag or commit on the hub; None: the newest at the first fetch.
        steps: denoising steps.
        guidance: `guidance_scale`; None: the pipeline's default.
        height: of the images in pixels; None: the pipeline's default.
        width: of the images in pixels; None: the pipeline's default.
        dtype: the dtype of the weights.
        placement: `whole`: the pipeline stays on the GPU. `models` or `layers`: only the model or layer in
            use is on the GPU.
        batch_size: images drawn at a time; it bounds memory and changes only rounding.
        safety_checker: keep the pipeline's own, if it has one. If it blackens an image, the run stops.
        options: further arguments of the pipeline's call, such as `max_sequence_length`.
    """

    trainable = False

    def __init__(
        self,
        *,
        pipeline: str | None,
        revision: str | None,
        steps: int,
        guidance: float | None,
        height: int | None,
        width: int | None,
        dtype: str,
        placement: str,
        batch_size: int,
        safety_checker: bool,
        options: Mapping[str, Any],
    ) -> None:
        if not pipeline or not (Path(pipeline).is_dir() or HUB_ID.fullmatch(pipeline)):
            raise ValueError(
                f"policies.pipeline={pipeline}: give a hub id, OWNER/NAME, or a folder that is there"
            )
        for name, count in (("steps", steps), ("batch_size", batch_size)):
            whole_number(f"policies.{name}", count)
        for name, side in (("height", height), ("width", width)):
            if side is not None:
                whole_number(f"policies.{name}", side)
        if guidance is not None:
            number("policies.guidance", guidance, least=0, hint=", or null for the pipeline's own")
        choice("policies.dtype", dtype, DTYPES)
        choice("policies.placement", placement, PLACEMENTS)
        self._pipeline, self._revision = pipeline, revision
        self._loading: dict[str, Any] = {
            "dtype": dtype,
            "placement": placement,
            "batch_size": batch_size,
            "safety_checker": bool(safety_checker),
        }
        given = {"num_inference_steps": steps, "guidance_scale": guidance, "height": height, "width": width}
        self._call = {**{name: value for name, value in given.items() if value is not None}, **options}

    def start(self, config: Config) -> Stage:
        """The stage `pipeline`, which fetches the pipeline if it is on the hub.

        Raises:
            ValueError: the samples of a batch would share one seed and be equal images.
        """
        if config["evaluation"]["rollout"]["random"] != "per_sample":
            raise ValueError(
                "a diffusion pipeline draws equal images from equal seeds:"
                " use evaluation.rollout.random=per_sample"
            )
        settings = {"pipeline": self._pipeline, "revision": self._revision}
        external = (self._pipeline,) if Path(self._pipeline).is_dir() else ()
        return Stage(
            name="pipeline", program="policies.pipelines.fetch.fetch", settings=settings, external=external
        )

    def load(self, folder: Path, *, trainable: bool = False) -> PipelinePolicy:
        from policies.pipelines.policy import PipelinePolicy

        assert not trainable, "the plan refuses to train it"
        return PipelinePolicy(folder, call=self._call, **self._loading)
