"""`harness.score`: images made elsewhere, scored by any benchmark; interruptions do not change the result."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from harness import score
from harness.analysis.statistics import clustered_error
from harness.files import read_rows
from harness.samples import SampleFolder
from harness.types import Chain, Prompt, Sample, Tokens

ROOT = Path(__file__).resolve().parents[1]
TOY = ["--config-dir", str(ROOT / "tests" / "toy"), "benchmarks=measured", "rewards=toy"]
PATIENCE_S = 180.0


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Scores in the toy world, in an empty working directory; returns exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)

    def scored(*words: str) -> tuple[int, str, str]:
        toy = [word for word in TOY if not (word.startswith("benchmarks=") and "benchmarks=toy" in words)]
        code = score.main([*toy, *words])
        return code, *capsys.readouterr()

    return scored


def light(number: int, *, left: int = 200, right: int = 50) -> Image.Image:
    """A picture that is brighter on its left, no two alike."""
    image = Image.new("RGB", (64, 32), (right, right, right))
    image.paste((left - number,) * 3, (0, 0, 32, 32))
    return image


def write_pictures(folder: Path, *, prompts: int = 6, draw: Callable[[int], Image.Image] = light) -> Path:
    (folder / "samples").mkdir(parents=True)
    for number in range(2 * prompts):
        draw(number).save(folder / "samples" / f"square {number // 2}_{number:06d}.png")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_folder_is_scored_end_to_end(run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "made elsewhere")
    code, out, err = run("samples=made elsewhere", "check=mirror", "draw=boxes")
    assert code == 0, err
    folder = tmp_path / "scored" / "made elsewhere"
    names = {"scores.jsonl", "summary.csv", "summary.md", "summary.json", "official/answers.json"}
    assert set(files(folder)) == names | {f"boxes/{index:05d}.png" for index in range(12)}
    assert not list((tmp_path / "scored").glob(".*")), "nothing is left beside it"

    found = read_rows(folder / "scores.jsonl")
    assert [(row["prompt_id"], row["number"]) for row in found] == [
        (f"val-{n // 2}", n % 2) for n in range(12)
    ]
    for index, row in enumerate(found):
        assert (row["index"], row["prompt"], Path(row["image"]).is_file()) == (
            index,
            f"square {index // 2}",
            True,
        )
        bright = (200 - index) / 255
        assert row["value"] == pytest.approx(bright if row["category"] == "bright" else 1 - bright)
        assert (row["mirrored"] is None) == (row["category"] == "dark")
    assert json.loads((folder / "official" / "answers.json").read_text()) == [row["value"] for row in found]

    values = [row["value"] for row in found if row["category"] == "bright"]
    error = clustered_error(values, [row["prompt_id"] for row in found if row["category"] == "bright"])
    said = json.loads((folder / "summary.json").read_text())["categories"]["bright"]
    assert (said["mean"], said["standard_error"], said["images"], said["prompts"]) == (
        pytest.approx(sum(values) / 6),
        pytest.approx(error),
        6,
        3,
    )
    assert (said["metric"], said["labels"], said["unscored"], said["mirror"]["verdict"]) == (
        "brightness",
        ["mode=toy"],
        {},
        "falls",
    )
    with (folder / "summary.csv").open() as file:
        bright, dark = csv.DictReader(file)
    assert (
        float(bright["score"]) == pytest.approx(sum(values) / 6, rel=1e-5)
        and bright["labels"] == "mode=toy"
        and dark["mirror"] == ""
    )
    for text in (out, (folder / "summary.md").read_text()):
        assert (
            "brightness, mode=toy" in text and f"{said['mean']:.4f}" in text and "falls: 0.77 to 0.20" in text
        )
        assert "mean over the images that were scored" in text
    for name in ("scores.jsonl", "summary.md", "official", "boxes"):
        assert str(folder / name) in out


def test_the_boxes_that_were_judged_are_drawn(run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "made")
    assert run("samples=made", "draw=boxes", "out=here")[0] == 0
    with Image.open(tmp_path / "here" / "boxes" / "00000.png") as drawn:
        plain = light(0).resize(drawn.size, Image.Resampling.NEAREST)
        changed = [
            x
            for x in range(drawn.width)
            if drawn.getpixel((x, drawn.height - 1)) != plain.getpixel((x, drawn.height - 1))
        ]
    assert changed and max(changed) <= drawn.width // 2 + 2, "the box ends at the middle"


def test_again_it_makes_nothing_and_replaces_the_outcome(run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "made")
    assert run("samples=made", "draw=boxes")[0] == 0
    code, _, err = run("samples=made")
    assert (code, err) == (0, "")
    assert not (tmp_path / "scored" / "made" / "boxes").exists()


def test_a_blind_metric_is_flagged_and_one_that_falls_is_not(run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "made")
    note = "blind to left and right: mirrored images score"
    for words, flagged in ((["benchmarks.blind=true"], True), ([], False)):
        code, out, _ = run("samples=made", "check=mirror", *words)
        assert code == 0
        assert (note in out, note in (tmp_path / "scored" / "made" / "summary.md").read_text()) == (
            flagged,
            flagged,
        )
    assert "mirrored" not in run("samples=made")[1], "unless it was asked for"


def test_unscored_images_are_reported_with_their_reason_and_are_no_zero(run, tmp_path: Path) -> None:
    """Prompts 0, 2 and 4 are of the category bright."""
    write_pictures(tmp_path / "made")
    for number in (0, 1, 4):
        dark = Image.new("RGB", (64, 32), "black")
        dark.putpixel((10, 10), (number, 99, 99))
        dark.save(tmp_path / "made" / "samples" / f"square {number // 2}_{number:06d}.png")
    code, out, _ = run("samples=made")
    assert code == 0
    said = json.loads((tmp_path / "scored" / "made" / "summary.json").read_text())["categories"]["bright"]
    assert (said["images"], said["prompts"], said["unscored"]) == (3, 2, {"there is no light": 3})
    assert said["mean"] == pytest.approx(sum(200 - number for number in (5, 8, 9)) / 3 / 255)
    assert "bright: 3 unscored: there is no light" in out


def test_where_nothing_was_scored_the_exit_code_is_1(run, tmp_path: Path) -> None:
    def dark(number: int) -> Image.Image:
        image = Image.new("RGB", (64, 32), "black")
        image.putpixel((10, 10), (number + 1,) * 3)
        return image

    write_pictures(tmp_path / "made", draw=dark)
    code, out, err = run("samples=made")
    assert code == 1 and err.endswith("error: nothing could be scored, for the reasons above\n")
    assert out.count("unscored: there is no light") == 2 and "0.0000" not in out
    assert (tmp_path / "scored" / "made" / "scores.jsonl").is_file()


def test_a_set_that_lacks_pictures_is_refused_or_scored_as_far_as_it_goes(run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "made")
    (tmp_path / "made" / "samples" / "square 2_000005.png").unlink()
    code, _, err = run("samples=made")
    assert code in (1, 2) and "square 2" in err and not (tmp_path / "scored").joinpath("made").exists()
    code, out, err = run("samples=made", "allow_partial=true")
    assert code == 0, err
    assert "partial: 2 of 3 prompts" in out


def test_official_results_are_imported(run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "made")
    assert run("samples=made")[0] == 0
    first = tmp_path / "scored" / "made"
    answers = json.loads((first / "official" / "answers.json").read_text())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "answers.json").write_text(json.dumps([*answers[:-1], None]))
    shutil.rmtree(tmp_path / "outputs")
    code, out, err = run("results=theirs")
    assert (code, err) == (0, "") and not (tmp_path / "outputs").exists(), "no stage is needed"
    found = read_rows(tmp_path / "scored" / "theirs" / "scores.jsonl")
    assert [row["value"] for row in found] == [*answers[:-1], None]
    assert (found[3]["prompt"], found[3]["number"], found[3]["image"]) == ("square 1", 1, None)
    assert "imported" in out and "dark: 1 unscored: no answer" in out and "mode=toy" not in out
    assert json.loads((tmp_path / "scored" / "theirs" / "official" / "answers.json").read_text()) == [
        *answers[:-1],
        None,
    ]


def test_results_that_a_benchmark_of_others_gives_are_checked(run, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "answers.json").write_text(json.dumps([1.5] * 12))
    code, out, err = run("results=theirs")
    assert code == 1 and "read_results gave 1.5 for prompt 'square 0'" in err, (out, err)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["no folder is given", "python -m harness.score benchmarks=t2i_compbench samples=FOLDER"]),
        (["samples="], ["no folder is given"]),
        (["samples=made", "results=made"], ["both samples= and results= are given"]),
        (["samples=nowhere"], ["samples=nowhere: there is no such folder"]),
        (["samples=made", "draw=masks"], ["draw=masks: allowed is draw=boxes"]),
        (["samples=made", "check=mirrors"], ["evaluation.check='mirrors': allowed are mirror and null"]),
        (["results=made", "check=mirror"], ["check= requires images, and results= has none"]),
        (["results=made", "benchmarks=toy"], ["this benchmark has no official programs"]),
        (["samples=made", "benchmarks=toy", "check=mirror"], ["this benchmark cannot score mirrored images"]),
        (["samples=made", "mode=official"], ["unknown setting 'benchmarks.scoring"]),
        (["samples=made", "out="], ["out= is empty: give a folder"]),
        (["samples=made", "out=."], ["holds the images themselves"]),
        (
            ["samples=made", "out=foreign"],
            ["holds other files than a result of harness.score", "left alone"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_answered_and_changes_nothing(
    run, tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    write_pictures(tmp_path / "made", prompts=1)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years of work")
    before = files(tmp_path)
    code, _, err = run(*words)
    assert code == 2
    assert all(part in err for part in parts)
    assert files(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_reported_before_anything_is_scored(run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "made")
    (tmp_path / "file").write_text("")
    code, _, err = run("samples=made", "out=file/below")
    assert code == 1 and "out=FOLDER" in err and not (tmp_path / "outputs").exists()


def test_help_says_it_all(run) -> None:
    code, out, _ = run("--help")
    assert code == 0 and all(
        word in out
        for word in ("samples=FOLDER", "results=FOLDER", "check=mirror", "draw=boxes", "allow_partial=true")
    )


def test_a_terminal_shows_the_same_in_a_table(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "made")
    monkeypatch.setattr(score, "Console", partial(Console, force_terminal=True, width=200, no_color=True))
    code, out, _ = run("samples=made", "check=mirror")
    assert code == 0 and "brightness, mode=toy" in out and "falls: 0.77 to 0.20" in out and "┃" in out


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOY_HOLD": str(folder / "hold")}
    command = [sys.executable, "-m", "harness.score", *TOY, *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_killed_in_the_middle_the_same_command_resumes_to_the_same_result(tmp_path: Path) -> None:
    words = ("samples=made", "check=mirror", "benchmarks.prompts=80")
    write_pictures(tmp_path / "made", prompts=80)
    undisturbed = start(tmp_path, *words)
    assert undisturbed.wait(PATIENCE_S) == 0
    whole = files(tmp_path / "scored")
    for name in ("outputs", "scored"):
        shutil.rmtree(tmp_path / name)

    (tmp_path / "hold").touch()
    killed = start(tmp_path, *words)
    end = time.monotonic() + PATIENCE_S
    while not (
        found := [
            part
            for part in tmp_path.glob("outputs/stages/scores-*.part/parts/*.jsonl")
            if part.stat().st_size
        ]
    ):
        assert time.monotonic() < end and killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (tmp_path / "hold").unlink()
    held = found[0].read_bytes().count(b"\n")
    assert held == 64 and not (tmp_path / "scored" / "made").exists()

    again = start(tmp_path, *words)
    assert again.wait(PATIENCE_S) == 0
    assert files(tmp_path / "scored") == whole
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/stages/scores-*/stage.json")]
    assert len(record["attempts"]) == 2


def test_a_samples_folder_of_the_shapes_world_is_scored_without_torch(tmp_path: Path) -> None:
    from benchmarks.shapes.benchmark import Shapes

    settings = {
        "categories": ["color"],
        "prompt_seed": 0,
        "train_per_category": 400,
        "dev_per_category": 60,
        "val_per_category": 200,
    }
    world = Shapes(**settings, unseen_share=0.25, unfaithful_share=0.3, n_prompts=4)
    drawn = [sample(prompt, number) for number, prompt in enumerate(world.prompts("val"))]
    SampleFolder(tmp_path / "samples-1234").append(0, drawn)
    words = ["samples=samples-1234", "benchmarks.categories=[color]", "benchmarks.n_prompts=4"]
    code = f"""
import sys
from harness import score
code = score.main({words!r})
print("torch" in sys.modules)
sys.exit(code)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    found = read_rows(tmp_path / "scored" / "samples-1234" / "scores.jsonl")
    assert [row["prompt_id"] for row in found] == [prompt.id for prompt in world.prompts("val")]
    assert all(row["value"] is not None for row in found)


def sample(prompt: Prompt, number: int) -> Sample:
    image = Image.new("RGB", (24, 24), (number, 100, 200))
    return Sample(
        prompt=prompt,
        chain=Chain(text="", objects=(), bare_text=""),
        image=image,
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=number,
    )
