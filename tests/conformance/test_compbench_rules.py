"""What the official programs of T2I-CompBench made of given detections, chunks, answers and scores:
ours make the same of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.t2i_compbench.rules.merge import key, merge, route
from benchmarks.t2i_compbench.rules.numeracy import Nouns, score_numeracy, without_duplicates
from benchmarks.t2i_compbench.rules.questions import clean, product, questions
from harness.types import Detections

EXACT = 1e-9
ROUTES = {"s": "spatial", "a": "action", "x": "both"}
IMAGES = 10  # of a prompt, in the 3-in-1 program


@pytest.fixture
def vectors(conformance_dir: Path) -> Any:
    def read(name: str) -> Any:
        file = conformance_dir / "t2i_compbench" / name
        if not file.is_file():
            pytest.skip(f"no vectors at {file}: set CONFORMANCE_DIR")
        return json.loads(file.read_text(encoding="utf-8"))

    return read


@pytest.fixture
def dataset(data_dir: Path) -> Path:
    folder = data_dir / "t2i_compbench"
    if not folder.is_dir():
        pytest.skip(f"no prompt files of T2I-CompBench at {folder}: set DATA_DIR")
    return folder


def number_in(text: str, before: str) -> float:
    return float(text.rpartition(before)[2])


def test_numeracy(vectors: Any, dataset: Path) -> None:
    content, nouns = vectors("compbench_numeracy.json"), Nouns.read(dataset / "new_objects.txt")
    wrong, scores = [], []
    for case in content["cases"]:
        boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in case["boxes"])
        detections = Detections(
            frame=(479, 479), labels=tuple(case["labels"]), boxes=boxes, scores=tuple(case["scores"])
        )
        score = score_numeracy(case["tokens"], detections, nouns, mode="official")
        scores.append(score.value)
        kept = [case["labels"][place] for place in score.kept]
        parsed = [name for name, _ in score.asked], [count for _, count in score.asked if count is not None]
        expected = ((case["parsed_objects"], case["parsed_counts"]), case["labels_after_dedup"])
        if (parsed, kept) != expected or abs(score.value - case["score"]) > EXACT:
            wrong.append((case["prompt"], score, case["score"]))
    assert scores and not wrong
    assert abs(sum(scores) / len(scores) - number_in(content["meta"]["score_txt"], "avg:")) <= EXACT


def test_numeracy_duplicate_rule(vectors: Any) -> None:
    cases = vectors("compbench_numeracy_duplicate_rule.json")["cases"]
    kept = [len(without_duplicates([case["box1"], case["box2"]], ["cat", "cat"])) for case in cases]
    assert cases and [2 - count for count in kept] == [case["duplicate"] for case in cases]


def test_blip_questions_and_aggregate(vectors: Any) -> None:
    content = vectors("compbench_blip_aggregate.json")
    wrong, scores = [], []
    for case in content["cases"]:
        asked = questions(case["chunks"], mode="official")
        expected = [question for question in case["questions"] if question]
        cleaned = [clean(question) for question in case["questions"]]
        score = product([float(answer) for answer in case["answers"][: len(asked)]], mode="official")
        assert score is not None
        scores.append(score)
        if (list(asked), cleaned, f"{score:.4f}") != (
            expected,
            case["questions_clean"],
            case["score"],
        ) or score != float(case["score"]):
            wrong.append((case["chunks"], asked, cleaned, score, case["score"]))
    assert scores and not wrong
    assert abs(sum(scores) / len(scores) - number_in(content["meta"]["score_txt"], "score:")) <= EXACT


def lines(file: Path) -> list[str]:
    with file.open(encoding="utf-8") as read:  # universal newlines, as the program reads
        return [line.removesuffix("\n") for line in read]


def test_3in1_routing_of_the_official_prompts(vectors: Any, dataset: Path) -> None:
    routing = vectors("compbench_3in1.json")["routing"]
    names = ("complex_val.txt", "complex_val_spatial.txt", "complex_val_action.txt")
    prompts, spatial, action = (lines(dataset / name) for name in names)
    keys = set(map(key, spatial)), set(map(key, action))
    assert len(routing) == len(prompts)
    assert [route(prompt, *keys) for prompt in prompts] == [ROUTES[letter] for letter in routing]


def test_3in1_weights(vectors: Any) -> None:
    weights = vectors("compbench_3in1.json")["meta"]["weights"]
    for letter, expected in weights.items():
        parts = [
            merge(ROUTES[letter], *scores, mode="official") for scores in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
        ]  # type: ignore[arg-type]
        assert parts == pytest.approx(expected, abs=EXACT)


def test_3in1_small_runs(vectors: Any) -> None:
    runs = vectors("compbench_3in1.json")["small_runs"]
    assert runs
    for run in runs:
        keys = set(map(key, run["spatial_file"])), set(map(key, run["action_file"]))
        parts = zip(run["attribute"], run["spatial"], run["clip"], strict=True)
        merged = [
            merge(route(run["prompts"][n // IMAGES], *keys), *scores, mode="official")
            for n, scores in enumerate(parts)
        ]
        assert merged == pytest.approx(run["expected"], abs=EXACT)
        assert abs(sum(merged) / len(merged) - number_in(run["score_txt"], "avg:")) <= EXACT
