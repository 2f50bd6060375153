"""`harness.doctor` as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from harness import command, doctor, sweep
from harness.stages import nvidia, provenance
from harness.types import Stage

TOY = Path(__file__).resolve().parent / "toy"
ROOT = TOY.parents[1]


@pytest.fixture
def toy(monkeypatch, tmp_path) -> list[str]:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(provenance, "gpu_memory_gb", lambda: None)
    return ["--config-dir", str(TOY), "ablations=toy", f"outputs_dir={tmp_path / 'outputs'}"]


def shown(words: list[str], capsys, code: int = 0) -> str:
    assert doctor.main(words) == code
    return capsys.readouterr().out


def settings_in(text: str) -> dict:
    return yaml.safe_load(text.partition("Settings")[2].partition("This machine")[0])


def test_it_shows_the_resolved_settings_of_the_arm(toy, capsys) -> None:
    half, full = (
        settings_in(shown([*toy, f"arm={arm}", "resources.threads=3"], capsys)) for arm in ("half", "full")
    )
    assert half == command.settings([*toy, "arms=half", "resources.threads=3"])
    assert half["resources"]["threads"] == 3
    assert half["rewards"] != full["rewards"]


def test_it_says_what_is_there_and_what_is_not(toy, capsys) -> None:
    chosen = command.choose(toy)
    command.obtain(chosen.trained.inputs["start"], chosen.store)
    lines = shown(toy, capsys).splitlines()
    states = {
        name: next(line for line in lines if f" {name} " in line)
        for name in ("base", "warm", "climb", "scores")
    }
    assert "there, took" in states["base"] and "there, took" in states["warm"]
    assert "to be made" in states["climb"] and "to be made" in states["scores"]


def test_the_paper_setting_is_printed_even_where_it_cannot_run(capsys, monkeypatch) -> None:
    monkeypatch.delenv("T2I_COMPBENCH_DIR", raising=False)
    assert doctor.main(["ablations=reward_components", "preset=paper_1b", "arm=full"]) in (0, 2)
    found = settings_in(capsys.readouterr().out)
    assert (
        found["grpo"]["samples"],
        found["grpo"]["steps"],
        found["grpo"]["prompts"],
        found["grpo"]["lora"]["rank"],
    ) == (16, 1000, 8, 32)


def test_memory_of_every_stage_and_what_cannot_fit(toy, capsys) -> None:
    text = shown(["policies=got_r1_1b", "resources.gpu_memory_gb=12", toy[-1]], capsys)
    for stage in ("sft", "grpo", "samples"):
        assert f"the stage {stage} needs about" in text
    assert "optimizer" in text and "12.6 GB" in text and "a GPU has 12 GB" in text
    assert "checkpoint=gogoduan/GoT-R1-1B is not in the hub's cache" in text


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '0, [N/A]'", ("GPU 0: GPU of an unknown model", "not known: the memory of GPU 0 ([N/A])")),
        ("echo 'No devices were found'", ("no GPU",)),
        ("echo 'NVML: mismatch'; exit 18", ("no GPU", "not known: nvidia-smi fails with code 18")),
        ("echo garbage", ("no GPU", "not known: nvidia-smi answers 'garbage'")),
    ],
)
def test_what_nvidia_smi_does_not_tell_is_said_in_a_line(
    toy, capsys, tmp_path, monkeypatch, script, expected
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(provenance, "gpus", provenance.gpus.__wrapped__)
    monkeypatch.setattr(provenance, "gpu_memory_gb", lambda: nvidia.memory()[0])
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "2.13.0+cpu"})
    text = shown(toy, capsys)
    assert ("torch 2.13.0+cpu is built without CUDA" in text) == ("no GPU" not in expected)
    for line in expected:
        assert f"  {line}" in text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "cuda:0")
    assert "CUDA_VISIBLE_DEVICES=cuda:0: 'cuda:0' is neither" in shown(toy, capsys)


def test_a_torch_that_cannot_start_cuda_is_reported_with_the_reason(
    toy, capsys, tmp_path, monkeypatch
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho '0, Some GPU'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "torch.py").write_text(FOREIGN_TORCH)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(provenance, "gpus", lambda: ((0, "Some GPU"),))
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "2.13.0+cu130"})
    text = shown(toy, capsys)
    assert "torch 2.13.0+cu130 cannot start CUDA (The driver is too old)" in text
    (tmp_path / "torch.py").write_text("raise SystemExit(1)")
    assert "whether torch can start CUDA is not known" in shown(toy, capsys)


FOREIGN_TORCH = """
__version__ = "2.13.0+cu130"
class cuda:
    def init():
        raise RuntimeError("The driver is too old.\\nUpdate it")
"""


def test_a_model_in_the_cache_is_not_missing(toy, capsys, monkeypatch, tmp_path) -> None:
    (tmp_path / "hub" / "models--gogoduan--GoT-R1-1B" / "snapshots" / "abc").mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "hub's cache" not in shown(["policies=got_r1_1b", "resources.gpu_memory_gb=999", toy[-1]], capsys)


def test_a_package_that_a_component_imports_and_that_is_not_installed(toy, capsys, tmp_path) -> None:
    (tmp_path / "my" / "rewards").mkdir(parents=True)
    (tmp_path / "my" / "farfetched.py").write_text(
        "class Far:\n"
        "    name = 'far'\n"
        "    def __call__(self, samples):\n"
        "        import no_such_package\n"
        "        import json\n"
    )
    (tmp_path / "my" / "rewards" / "far.yaml").write_text(
        "total: far\ncomponents:\n  far:\n    _target_: farfetched.Far\n"
    )
    text = shown(["rewards=far", "--config-dir", str(tmp_path / "my"), toy[-1]], capsys)
    assert (
        "no_such_package is not installed, and farfetched.Far imports it: pip install no_such_package" in text
    )
    assert "json is not" not in text


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": []}).encode())

    def log_message(self, *_: object) -> None:
        return


def test_a_judge_that_does_not_answer_is_missing(toy, capsys) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    words = ["judge=server", f"judge.serving.url={url}", toy[-1]]
    assert "no judge answers" not in shown(words, capsys)
    server.shutdown()
    server.server_close()
    assert f"no judge answers at {url}" in shown(words, capsys)


def test_it_says_which_difference_the_study_can_detect(toy, capsys, tmp_path) -> None:
    before = " ".join(shown(toy, capsys).split())
    assert "Detectable difference of two arms, mean over" in before
    assert "this run only" in before and "training" in before
    assert "assumed, as in reports/reward_components: 0.4 over prompts" in before
    words = [toy[0], toy[1], "ablations=toy", "arms=baseline,full", "seed=0,1", toy[-1], "reports_dir=null"]
    assert sweep.main([*words, "-m"]) == 0
    after = " ".join(shown(toy, capsys).split())
    assert "measured in the study toy" in after and "assumed" not in after


def test_a_proxy_that_cannot_be_used_is_listed(monkeypatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    lines = doctor.machine({"processes": 1, "threads": 1})
    assert any("ALL_PROXY=socks://127.0.0.1:1080" in line for line in lines)


def test_planning_and_estimating_need_no_torch() -> None:
    code = """
import sys
from harness import doctor
doctor.main(["policies=got_r1_1b"])
print("torch" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert answer.splitlines()[-1] == "False"


class Part:
    def missing(self) -> list[str]:
        return ["a part"]


class Whole:
    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts

    def missing(self) -> list[str]:
        return [line for part in self.parts[:1] for line in part.missing()]


def test_a_component_that_says_what_is_missing_speaks_for_its_parts() -> None:
    part = {"_target_": f"{__name__}.Part"}
    whole = {"_target_": f"{__name__}.Whole", "parts": [part, part]}
    assert doctor.missing([Stage(name="scores", program="p", settings={"of": whole})]) == ["a part"]
    assert doctor.missing([Stage(name="scores", program="p", settings={"of": {**whole, "parts": []}})]) == []
    assert doctor.missing([Stage(name="scores", program="p", settings={"of": {"deep": [part]}})]) == [
        "a part"
    ]
