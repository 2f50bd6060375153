"""The number format of matrix products: weights stay float32, products may be bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def products(precision: str, device: str) -> AbstractContextManager[None]:
    """A context in which matrix products run in `precision`.

    `auto` is bfloat16 on devices that multiply it natively (GPUs; CPUs with AMX or AVX512-BF16, about five
    times as fast as float32 there), and float32 on others.
    """
    if precision == "auto":
        precision = "bfloat16" if native_bfloat16(device) else "float32"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def native_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 multiplication in hardware."""
    if device != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
