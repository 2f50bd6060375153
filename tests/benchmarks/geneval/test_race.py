"""The race of GenEval's detector."""

from __future__ import annotations

import mini_geneval
import torch
from transformers import Mask2FormerForUniversalSegmentation

from benchmarks.geneval import race

torch.set_num_threads(1)


def test_the_race_looks_at_every_picture(monkeypatch, tmp_path):
    mini_geneval.write_mask2former(tmp_path)
    tiny = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).eval()
    monkeypatch.setattr(race, "random_model", lambda: tiny)
    (found,) = race.mask2former_race()
    assert found.work.startswith("random Mask2Former with Swin-S at ") and list(found.systems) == ["ours"]
    assert found.systems["ours"]()["images"] > 0


def test_the_raced_network_is_as_large_as_the_published_one():
    """69 million, as the weights on the hub: 0.275 GB in float32."""
    with torch.device("meta"):
        model = race.random_model()
    assert 68e6 < sum(value.numel() for value in model.parameters()) < 70e6


def test_the_phase_on_a_gpu_counts_all_images(monkeypatch, tmp_path):
    mini_geneval.write_mask2former(tmp_path)
    tiny = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).eval()
    monkeypatch.setattr(race, "random_model", lambda: tiny)
    asked = []
    monkeypatch.setattr(race, "timed", lambda *work: asked.append(work) or {"images": 0.5})
    (phase,) = race.phases("cpu", 3, 64)
    (measured,) = phase.run()
    assert asked == [(torch.device("cpu"), 3, 64)] and measured.value == 6.0
