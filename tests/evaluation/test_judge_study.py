"""The study of judges from the command line: images made elsewhere, people's scores, a served judge."""

from __future__ import annotations

import base64
import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scripted_server import Script, Step, reply

from harness import command
from harness.composition.components import make
from harness.stages.keys import key
from harness.types import Stage

ROOT = Path(__file__).resolve().parents[2]
SHADES = (0, 50, 100, 150, 200, 250)  # of the images, two of each prompt; the judge likes bright ones
SHAPES = ["benchmarks.categories=[color]", "benchmarks.n_prompts=3"]


def grade(body: dict[str, Any]) -> Step:
    """A tenth of the brightness in percent; no score for an image of the shade 100."""
    (url,) = (
        part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url"
    )
    shade = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L").getpixel((0, 0))
    return reply("I cannot say." if shade == 100 else json.dumps({"score": shade / 25}))


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of the command, with a folder of six images and a file of people's scores of them."""
    prompts = command.choose([*SHAPES, "evaluation.split=dev"]).cell.config["benchmarks"]
    rows, scores = [], []
    for prompt in make(prompts).prompts("dev"):
        for number in (0, 1):
            shade = SHADES[len(rows)]
            Image.new("RGB", (24, 24), (shade,) * 3).save(tmp_path / f"{shade}.png")
            rows.append({"prompt": prompt.text, "image": f"{shade}.png", "chain": ""})
            scores.append({"prompt_id": prompt.id, "number": number, "score": [shade, shade + 2]})
    scores[4]["score"], scores[5]["score"] = scores[5]["score"], scores[4]["score"]
    write(tmp_path / "samples.jsonl", rows)
    write(tmp_path / "people.jsonl", scores)
    return [
        *("ablations=judge_reliability", "policies=images", "trainers=frozen", *SHAPES, "judge=server"),
        *(f"policies.folder={tmp_path}", "evaluation.images_per_prompt=2", "arms=picture_judge"),
        f"evaluation.agreement.reference={tmp_path / 'people.jsonl'}",
    ]


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def test_a_served_judge_is_compared_with_people_on_images_made_elsewhere(words, tmp_path):
    with Script(by_body=grade) as script:
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "harness.sweep", *words, f"judge.serving.url={script.url}"),
                *(f"outputs_dir={tmp_path / 'outputs'}", f"reports_dir={tmp_path / 'reports'}"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    report = tmp_path / "reports" / "judge_reliability"
    with (report / "tables" / "agreement.csv").open(encoding="utf-8") as stream:
        rows = {row["judge"]: row for row in csv.DictReader(stream)}
    found = rows["picture_judge"]
    assert float(found["tau"]) == pytest.approx(0.8) and float(found["rho"]) == pytest.approx(0.9)
    assert (found["pairs"], found["prompts"], found["unscored"], found["no_reference"]) == (
        *("5", "3", "1", "0"),
    )
    assert found["published_tau"] == "0.3147" and rows["clip"]["reason"] == "not in this run"
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "Kendall's tau with the reference: picture_judge 0.80 (the paper 0.31)." in text.replace("\\", "")


def planned(words: list[str], arm: str) -> dict[str, Stage]:
    chosen = command.choose([*words, "ablations=judge_reliability", f"arm={arm}"])
    return {stage.name: stage for stage in chosen.cell.stages}


def test_all_judges_of_the_study_score_the_same_samples_of_the_common_sft_model():
    arms = ("exact", "picture_judge", "clip", "semantic_judge", "layout_drawn", "layout_written")
    plans = [planned([], arm) for arm in arms]
    assert len({key(plan["samples"]) for plan in plans}) == 1
    assert plans[0]["samples"].settings["evaluation"]["split"] == "dev"
    trained = command.choose(["ablations=reward_components", "arm=full"]).cell.stages
    assert key(plans[0]["sft"]) in {key(stage) for stage in trained}
    measures = [plan["scores"].settings["benchmark"] for plan in plans]
    assert [measure["component"]["_target_"].rpartition(".")[2] for measure in measures] == [
        *("PromptImage", "PromptImage", "PromptSimilarity", "ChainSemantics", "ChainLayout", "LayoutText"),
    ]
    for measure in measures:
        assert measure["reference"]["judge"] == {"_target_": "benchmarks.shapes.oracle.OracleJudge"}
    for measure in (measures[0], *measures[3:]):
        assert measure["component"]["_target_"] == measure["reference"]["_target_"]


def test_a_file_that_does_not_fit_the_images_stops_the_command_before_anything_runs(words, tmp_path):
    rows = [json.loads(line) for line in (tmp_path / "people.jsonl").read_text().splitlines()]
    write(tmp_path / "people.jsonl", rows[:4])
    with pytest.raises(ValueError, match="has scores of 4 of 6 images"):
        command.choose(words)
    command.choose([*words, "evaluation.agreement.allow_partial=true"])
    write(tmp_path / "people.jsonl", [{**rows[0], "prompt_id": "color-dev-0009"}, *rows[1:]])
    with pytest.raises(ValueError, match=r"prompt_id 'color-dev-0009', and evaluation\.split has no such"):
        command.choose(words)


def test_the_documented_command_plans_with_t2i_compbench_and_real_experts(prompt_files, tmp_path):
    rows = [{"prompt_id": "color/0000", "score": 4}, {"prompt_id": "shape/0000", "score": [1, 2]}]
    write(tmp_path / "people.jsonl", rows)
    words = [
        *("benchmarks=t2i_compbench", "evaluation.split=val", "evaluation.images_per_prompt=1"),
        *("policies=images", f"policies.folder={prompt_files / 'pictures'}", "trainers=frozen"),
        *(f"evaluation.agreement.reference={tmp_path / 'people.jsonl'}", "judge=server", "clip=clip"),
    ]
    with pytest.raises(ValueError, match=r"has scores of 2 of \d+ images"):
        planned(words, "picture_judge")
    words += ["evaluation.agreement.allow_partial=true"]
    targets = []
    for arm in ("picture_judge", "clip"):
        measure = planned(words, arm)["scores"].settings["benchmark"]
        component = measure["component"]
        targets.append((component.get("judge") or component["similarity"])["_target_"])
    assert targets == ["harness.experts.judge.server.ServerJudge", "harness.experts.similarity.clip.Clip"]
