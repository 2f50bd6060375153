"""What the frozen models share."""

from __future__ import annotations

import pytest
import torch

from harness.experts.pretrained import Pretrained, by_halves


def room_for(count: int, seen: list[int]):
    """Looks at no more than `count` at once."""

    def look(items):
        seen.append(len(items))
        if len(items) > count:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in items]

    return look


def test_what_does_not_fit_is_looked_at_by_halves():
    seen: list[int] = []
    assert by_halves(room_for(3, seen), range(10)) == [2 * item for item in range(10)]
    assert seen == [10, 5, 2, 3, 5, 2, 3]


def test_one_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        by_halves(room_for(0, []), [1, 2])


@pytest.mark.parametrize("device", ["cuda:x", "cuda:", "gpu", "cuda:-1", "", None, 0])
def test_a_device_of_another_form_is_refused(device) -> None:
    with pytest.raises(ValueError, match=r"clip\.serving\.device="):
        Pretrained(where="clip", model="a/b", device=device, dtype="float32")


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:1", 1)])
def test_a_cuda_device_that_torch_does_not_see_is_refused(monkeypatch, device, count) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    pretrained = Pretrained(where="clip", model="a/b", device=device, dtype="float32")
    with pytest.raises(ValueError, match=rf"clip\.serving\.device={device}: .* sees {count} CUDA devices"):
        pretrained.device()
    auto = Pretrained(where="clip", model="a/b", device="auto", dtype="float32").device()
    assert auto.type == ("cuda" if count else "cpu")
