"""The UniDet model, from images to boxes. Its parts have the names of the published files.

Shape letters: B images, C channels, H W rows and columns, N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from benchmarks.t2i_compbench.models.unidet.cascade import Cascade, Detected
from benchmarks.t2i_compbench.models.unidet.fpn import Backbone
from benchmarks.t2i_compbench.models.unidet.proposals import ProposalGenerator
from benchmarks.t2i_compbench.models.unidet.regions import LEVELS
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

# Mean and deviation of the three channels in the order that each detector was trained with.
# RS200 takes red first, R50 blue first.
NORMS = {
    "rs200": ((123.68, 116.779, 103.939), (58.393, 57.12, 57.375)),
    "r50": ((103.53, 116.28, 123.675), (1.0, 1.0, 1.0)),
}
MULTIPLE = 32  # the sides of a padded batch are multiples of it


class UniDetModel(nn.Module):
    """The detector of T2I-CompBench (`UniDet_eval/experts/obj_detection`), for eval mode."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.backbone = Backbone(sizes)
        self.proposal_generator = ProposalGenerator(sizes.features)
        self.roi_heads = Cascade(sizes)

    def forward(self, images: Sequence[Tensor]) -> list[Detected]:
        """Boxes in pixels of each image, scores and classes, best first.

        Args:
            images: [3, h, w] each, 0..255, channels as they are to meet the network; they may differ in size.

        Raises:
            FloatingPointError: the networks' numbers are not finite.
        """
        images_B3HW, sizes = self.normalise(images)
        levels = self.backbone(images_B3HW)
        return self.cascade(levels, [boxes_N4 for boxes_N4, _ in self.propose(levels, sizes)], sizes)

    def normalise(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """One batch, zeros on the right and below up to multiples of 32, and each image's height and
        width.
        """
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        height, width = (-(-max(sides) // MULTIPLE) * MULTIPLE for sides in zip(*sizes, strict=True))
        mean_311, deviation_311 = (
            torch.tensor(numbers, device=images[0].device)[:, None, None]
            for numbers in NORMS[self.sizes.variant]
        )
        scaled = [(image - mean_311) / deviation_311 for image in images]
        padded = [pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in scaled]
        return torch.stack(padded).to(next(self.parameters()).dtype), sizes

    def propose(
        self, levels: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each image the boxes [N, 4] where something may be, and their logits [N], best first.

        Args:
            levels: p3 to p7, [B, C, H, W] each.
            sizes: height and width of each image without padding.
        """
        return self.proposal_generator(levels, sizes)

    def cascade(
        self, levels: Sequence[Tensor], proposals: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detected]:
        """Of each image what its proposals [N, 4] turn out to be.

        Args:
            levels: p3 to p7, [B, C, H, W] each; the first three are read.
            proposals: boxes in pixels.
            sizes: height and width of each image without padding.
        """
        of_images = zip(*levels[:LEVELS], strict=True)
        return [self.roi_heads(*of_image) for of_image in zip(of_images, proposals, sizes, strict=True)]
