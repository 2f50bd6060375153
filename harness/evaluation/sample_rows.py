"""One row for every sample of a folder, in a file: resumed after a kill, and shared by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import team
from harness.evaluation.row_shards import RowShards
from harness.files import write_rows
from harness.samples import SampleFolder, SampleRow
from harness.types import Sample

if TYPE_CHECKING:
    from harness.protocols import Workspace

PARTS = "parts"  # the folder that an unfinished stage resumes from; see `harness.stages.program`
PIXELS = 64 * 2**20  # of the images that are looked at at once: 192 MB

Batch = list[tuple[SampleRow, Sample | str]]  # with the reason where the image cannot be read
RowsOf = Callable[[Batch], Sequence[Mapping[str, Any]]]


def write_sample_rows(
    work: Workspace,
    name: str,
    folder: SampleFolder,
    rows_of: RowsOf,
    *,
    load: Callable[[], None] | None = None,
) -> Path:
    """Write one row for each sample, and return the file.

    Samples that an interrupted attempt has done are not done again.

    Args:
        work: its folder gets the file, and it hears of every block of samples.
        name: the file's name. A file that exists is whole, and stays as it is.
        folder: the samples.
        rows_of: returns the rows of a batch of samples, each with the `index` of its sample.
        load: is called before the first batch, if there is one to do.
    """
    file = work.folder / name
    samples = folder.rows()
    shards = RowShards(work.folder / PARTS)
    if not file.is_file():
        shards.open()
        to_do = list(shards.to_do(len(samples)))
        if to_do and load:
            load()
        for block in to_do:
            for batch in _batches(folder, [samples[index] for index in block]):
                shards.append(rows_of(batch))
            work.progress(shards.count(), len(samples))
        team.barrier()
    if team.rank_and_size()[0] == 0 and not file.is_file():
        write_rows(file, shards.merged(len(samples), "images"))
    return file


def _batches(folder: SampleFolder, rows: Sequence[SampleRow]) -> Iterator[Batch]:
    """Yield the samples of rows in batches of at most `PIXELS`."""
    batch: Batch = []
    pixels = 0
    for row in rows:
        sample: Sample | str
        try:
            sample = folder.sample(row)
            size = sample.image.width * sample.image.height
        except ValueError as error:
            sample, size = str(error), 0
        if batch and pixels + size > PIXELS:
            yield batch
            batch, pixels = [], 0
        batch.append((row, sample))
        pixels += size
    yield batch
