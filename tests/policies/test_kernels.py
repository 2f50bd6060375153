"""The compiled loops of a rollout step give what torch's operators give, in both number formats."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from policies.janus import compiled, kernels, loops, training_kernels

FORMATS = [torch.float32, torch.bfloat16]
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 2**-7}


@pytest.mark.parametrize(
    ("weights", "products"),
    [(torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16)],
)
@torch.no_grad()
def test_norm(weights: torch.dtype, products: torch.dtype) -> None:
    norm = LlamaRMSNorm(24, eps=1e-3).to(weights)
    norm.weight.normal_()
    x_RH = (3 * torch.randn(7, 24)).to(weights)
    found_RH = compiled.normalize(x_RH, norm.weight, norm.variance_epsilon, products)
    assert found_RH.dtype == products
    rounding = ROUNDING[products]
    torch.testing.assert_close(found_RH, norm(x_RH).to(products), rtol=rounding, atol=rounding)


@pytest.mark.parametrize("dtype", FORMATS)
def test_gate_from_very_small_to_very_large_numbers(dtype: torch.dtype) -> None:
    gates_RI = torch.linspace(-200, 200, 4004).view(4, -1).to(dtype)
    ups_RI = torch.randn(gates_RI.shape).to(dtype)
    expected_RI = F.silu(gates_RI) * ups_RI
    found_RI = compiled.gate(torch.cat((gates_RI, ups_RI), 1))
    torch.testing.assert_close(found_RI, expected_RI, rtol=4 * ROUNDING[dtype], atol=1e-30)


def test_numbers_halfway_between_two_of_bfloat16_go_to_the_even_one() -> None:
    bits = torch.arange(0x3F80_0000, 0x3F84_0000, 0x4000, dtype=torch.int32)  # quarters of a step, from 1 on
    numbers = bits.view(torch.float32)[None]
    ones = torch.ones(numbers.shape[1])
    found = compiled.normalize(numbers, ones, 1.0 - numbers.square().mean().item(), torch.bfloat16)
    assert torch.equal(found, numbers.bfloat16())


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_inverse_cdf(dtype: torch.dtype, temperature: float) -> None:
    torch.manual_seed(0)
    logits_RV = (4 * torch.randn(50, 300)).to(dtype)
    uniforms_R = torch.rand(50, dtype=torch.float64)
    ids_R, logprobs_R = compiled.draw(logits_RV, temperature, uniforms_R)
    cdf_RV = torch.softmax(logits_RV.double() / temperature, -1).cumsum(-1)
    assert ids_R.tolist() == (cdf_RV <= uniforms_R[:, None]).sum(1).tolist()
    expected_RV = torch.log_softmax(logits_RV.double() / temperature, -1)
    expected_R = expected_RV.gather(1, ids_R[:, None])[:, 0].float()
    torch.testing.assert_close(logprobs_R, expected_R, rtol=0, atol=1e-5)


def test_the_last_id_is_drawn_where_rounding_leaves_nothing_above_a_uniform_number() -> None:
    almost_one = torch.tensor([1 - 2**-53], dtype=torch.float64)
    ids_R, _ = compiled.draw(torch.zeros(1, 3), 1.0, almost_one)
    assert ids_R.tolist() == [2]


def test_without_a_folder_for_machine_code_the_loops_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, options)

    monkeypatch.setattr(loops, "njit", refuse)
    function, options = loops.compiled()(kernels.gate)
    assert function is kernels.gate and options["fastmath"]


def test_an_edit_of_any_loop_leaves_older_machine_code_behind(tmp_path: Path) -> None:
    sources = [tmp_path / "loops.py", tmp_path / "kernels.py"]
    for source in sources:
        source.write_text("pass\n")
    folders = {loops._machine_code(tmp_path, sources)}
    for source in sources:
        source.write_text("pass  # edited\n")
        folders.add(loops._machine_code(tmp_path, sources))
    assert len(folders) == 3
    assert {path.name for path in Path(loops.__file__).parent.glob("*kernels.py")} < set(loops.SOURCES)


def test_no_loop_is_compiled_apart_from_those_that_call_it() -> None:
    """Whether its code is at hand would decide how its caller is compiled, and so the last bits."""
    called = re.compile(r"(?<!def )\b([a-z_]+)\(")
    for module in (kernels, training_kernels):
        loops_of = {name: value for name, value in vars(module).items() if hasattr(value, "py_func")}
        for loop in loops_of.values():
            for name in called.findall(inspect.getsource(loop.py_func)):
                if name in loops_of:
                    assert loops_of[name].targetoptions.get("inline") == "always", name
