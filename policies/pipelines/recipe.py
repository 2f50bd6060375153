"""The `policies=diffusers` component, torch-free until a picture is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.protocols import PolicyRecipe
from harness.settings import choice, number, whole_number
from harness.types import Config, Stage

if TYPE_CHECKING:
    from policies.pipelines.policy import PipelinePolicy

DTYPES = ("float32", "bfloat16", "float16")
PLACEMENTS = ("whole", "models", "layers")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Pipeline(PolicyRecipe):
    """A pipeline by hub id or folder, and how it draws. It writes no chain, and has a guidance of its own.

    Args:
        pipeline: hub id (OWNER/NAME), or a folder as `save_pretrained` writes it.
        revision: of the hub id: branch, tag or commit; None for the newest when it is first fetched.
        steps: denoising steps.
        guidance: its `guidance_scale`; None for the pipeline's own.
        height: of the pictures in pixels; None for the pipeline's own.
        width: likewise.
        dtype: of the weights.
        placement: `whole` pipeline on the GPU; or there only while they are used, its `models` one by one, or their `layers`.
        batch_size: pictures drawn at a time; bounds memory and changes nothing but rounding.
        safety_checker: keep the pipeline's own, if it has one. A picture that it replaces by a black one stops the run.
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
        """The stage `pipeline`, which fetches it where it is on the hub.

        Raises:
            ValueError: the samples of a batch are to share one seed, which would make equal pictures.
        """
        if config["evaluation"]["rollout"]["random"] != "per_sample":
            raise ValueError(
                "a diffusion pipeline draws equal pictures from equal seeds: use evaluation.rollout.random=per_sample"
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
