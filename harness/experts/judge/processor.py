"""Qwen's processors without their video part, which requires torchvision.

The library reads the parts of a processor from the signature of `__init__`, so the part is left out there.
This file imports nothing of ours: saved beside a checkpoint, it is code that others can load.
"""

from __future__ import annotations

from typing import Any

from transformers import Qwen2_5_VLProcessor, Qwen3VLProcessor
from transformers.processing_utils import ProcessorMixin


class _ImageOnly(ProcessorMixin):
    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **options: Any,
    ) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


class ImageOnlyQwen2_5VLProcessor(_ImageOnly, Qwen2_5_VLProcessor):
    """The processor of Qwen2.5-VL."""


class ImageOnlyQwen3VLProcessor(_ImageOnly, Qwen3VLProcessor):
    """The processor of Qwen3-VL."""
