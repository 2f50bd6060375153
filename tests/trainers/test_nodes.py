"""Two processes on two nodes, joined by nothing but their environment, train as one process."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from mini_nodes import PATIENCE_S, free_port, of_torch, processes
from mini_world import FakeWorkspace, grpo_settings, sft_settings

from harness.stages.program import load_program
from policies.janus.policy import JanusPolicy

RANK_0 = """
import json, sys
from pathlib import Path
from harness.stages import process_group, ranks
from harness.stages.program import load_program
from mini_world import FakeWorkspace
call = ranks.ProgramCall(**json.loads(sys.argv[1]))
team, work = ranks.Ranks(place=process_group.Place.of_environment()), FakeWorkspace(Path(call.folder))
for again in range(2):
    work.lines.clear()
    with team.together(call):
        inputs = {name: Path(folder) for name, folder in call.inputs.items()}
        load_program(call.program)(work, dict(call.settings), inputs)
    (work.folder / "training.pt").unlink()
team.close()
(work.folder / "lines.json").write_text(json.dumps(work.lines))
"""


@pytest.mark.parametrize(
    ("trainer", "master"), [("grpo", "127.0.0.1"), ("sft", socket.gethostname())], ids=["grpo", "sft"]
)
def test_two_nodes_train_as_one_process_and_live_through_several_calls(
    tmp_path: Path, janus_folder: Path, tokens_folder: Path, trainer: str, master: str
) -> None:
    inputs = {"start": janus_folder.parent}
    if trainer == "grpo":
        settings = grpo_settings({"guidance": 3.0}, steps=2, prompts=4, micro_batch=3, checkpoint_every=2)
    else:
        settings = sft_settings(batch_size=4, steps=3, fsdp=True, micro_batch=1)
        inputs["tokens"] = tokens_folder
    program, port = f"harness.trainers.{trainer}.train", free_port()
    call = {"program": program, "settings": settings, "folder": str(tmp_path / "two")}
    call["inputs"] = {name: str(folder) for name, folder in inputs.items()}
    with processes() as start:
        other = start(["-m", "harness.stages.ranks"], of_torch(1, port, master))
        first = start(["-c", RANK_0, json.dumps(call)], of_torch(0, port, master))
        alone = FakeWorkspace(tmp_path / "one")
        load_program(program)(alone, settings, inputs)
        for process in (first, other):
            said = process.communicate(timeout=PATIENCE_S)[0]
            assert process.returncode == 0, said
    lines = json.loads((tmp_path / "two" / "lines.json").read_text())
    for one, two in zip(alone.lines, lines, strict=True):
        assert {**two, "seconds": 0} == pytest.approx({**one, "seconds": 0}, rel=1e-3, abs=1e-5)
    template = settings["policy"]["template"]
    weights = [
        JanusPolicy(tmp_path / name / "checkpoint", template=template).module.state_dict()
        for name in ("one", "two")
    ]
    for name, value in weights[0].items():  # where a gradient is all but zero, rounding decides its sign
        assert ((value - weights[1][name]).abs() > 1e-4).float().mean() < 0.02, name
