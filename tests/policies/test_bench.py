"""The race of the engine and transformers' `generate`: both do all the work, on a small model."""

from __future__ import annotations

import pytest
import torch

from policies.janus import bench, floor


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WIDTH": 32,
        "INNER": 48,
        "LAYERS": 2,
        "HEADS": 2,
        "VOCABULARY": 400,
        "CODES": 30,
        "SIDE": 3,
    }.items():
        monkeypatch.setattr(bench, name, value)
    for name, value in {"PROMPT": 6, "CHAIN": 5, "IMAGE": 9}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "native_bfloat16", lambda device: False)
    rates = floor.Rates(bytes_s=1e9, flops_s=1e10)
    monkeypatch.setattr(floor, "measured_rates", lambda dtype, device: rates)


def test_both_systems_do_the_same_work(small: None) -> None:
    eight, many = bench.races_on("cpu")
    assert (eight.setting, many.setting) == ("8 samples, float32", "32 samples, float32")
    assert (eight.amount, eight.unit, eight.count_unit) == (8, "samples", "tokens")
    assert eight.counts == {"chain": 40, "image": 72}
    assert list(eight.systems) == ["generate", "engine"]
    for run in eight.systems.values():
        seconds = run()  # asserts itself that no chain ended early
        assert list(seconds) == ["chain", "image"] and all(value > 0 for value in seconds.values())
    assert eight.floor_s is not None and many.floor_s is not None
    assert 0 < eight.floor_s() < many.floor_s()


def test_begin_of_image_is_all_but_impossible() -> None:
    model = bench._model()
    with torch.no_grad():
        hidden_BTH = model.model.language_model(torch.randint(3, bench.VOCABULARY, (4, 30))).last_hidden_state
        probabilities = torch.softmax(model.lm_head(hidden_BTH), -1)[..., bench.BOI]
    assert probabilities.max() < 1e-9
    assert probabilities.max() > 0
