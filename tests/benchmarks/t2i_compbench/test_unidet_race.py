"""The race of the two UniDets: whole networks of the published sizes, here of tiny ones."""

from __future__ import annotations

import mini_unidet
import torch

from benchmarks.t2i_compbench.models.unidet.model import UniDetModel
from benchmarks.t2i_compbench.races import unidet

torch.set_num_threads(1)


def test_each_detector_has_a_race_that_looks_at_every_picture(monkeypatch):
    monkeypatch.setattr(unidet, "published", lambda: tuple(mini_unidet.SIZES.values()))
    races = list(unidet.unidet_races())
    assert [race.work.split(" of ")[0] for race in races] == ["random UniDet RS200", "random UniDet R50"]
    for race in races:
        seconds = race.systems["ours"]()
        assert list(race.systems) == ["ours"] and race.unit == "images" and seconds["images"] > 0


def test_the_raced_networks_are_as_large_as_the_published_ones():
    """All numbers but counts of batches."""
    for sizes, numbers in zip(unidet.published(), (71_954_034, 120_709_842), strict=True):
        with torch.device("meta"):
            state = UniDetModel(sizes).state_dict()
        assert (
            sum(value.numel() for name, value in state.items() if not name.endswith("num_batches_tracked"))
            == numbers
        )
