from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from harness import generate
from harness.chain import END, parse
from harness.composition.arguments import UsageError
from harness.launch import board
from harness.samples import SampleFolder
from harness.types import Prompt, Sample, Tokens

TOY = Path(__file__).resolve().parent / "toy"
VASE = f"A <|obj_start|>vase<|obj_end|> <|box_start|>(100,200),(500,900)<|box_end|>.{END}"


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Generates in the toy world; returns exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = generate.main(["--config-dir", str(TOY), "ablations=toy", *words])
        return code, *capsys.readouterr()

    return run


def sample(chain: str = VASE) -> Sample:
    return Sample(
        prompt=Prompt(id="prompt", text="a vase", category="generated"),
        chain=parse(chain),
        image=Image.new("RGB", (24, 24), "teal"),
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=3,
    )


def test_it_trains_what_is_missing_draws_and_writes(command, tmp_path):
    code, out, err = command("prompt=a square", "n=2")
    assert code == 0
    assert "to be made first" in err
    rows = SampleFolder(tmp_path / "generated").rows()
    assert [row.prompt for row in rows] == ["a square", "a square"]
    assert rows[0].seed != rows[1].seed
    for row in rows:
        assert row.chain in out
        assert (tmp_path / "generated" / row.image).is_file()
    for kind, end in (("images", "png"), ("plans", "png"), ("chains", "txt")):
        assert f"generated/{kind}/00001.{end}" in out

    code, out, err = command("prompt=a square")
    assert (code, err) == (0, "")
    again = SampleFolder(tmp_path / "generated").rows()
    assert again[:2] == rows
    assert replace(again[2], index=0, image=rows[0].image) == rows[0]


def test_it_says_how_far_it_is_while_it_draws(command, monkeypatch):
    printed = threading.Event()

    def draw(request, samples, checkpoint, on_step):
        yield sample()
        on_step("chain", 3, 8)
        printed.clear()
        assert printed.wait(60)
        yield sample()

    def line(name, status, elapsed_s):
        printed.set()
        return board.line(name, status, elapsed_s)

    monkeypatch.setattr(generate, "LINE_EVERY_S", 0.01)
    monkeypatch.setattr(generate, "draw", draw)
    monkeypatch.setattr(generate, "line", line)
    code, out, err = command("prompt=x", "n=2")
    assert code == 0 and out.count("faults") == 2
    shown = [text for text in err.splitlines() if text.startswith("images")]
    assert any(text.split()[1:3] == ["running", "1/2"] and text.endswith("chain token 3/8") for text in shown)
    assert not [thread for thread in threading.enumerate() if "_print" in thread.name]


def test_the_time_left_is_that_of_the_steps_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(generate.time, "monotonic", lambda: now[0])
    progress = generate.Progress(total=4, batch=2)
    now[0] = 150.0  # loading the model does not count
    for step in range(1, 11):
        progress.step("chain", step, 600)
    assert "ETA" not in progress.text(), "nobody knows how long the first chain becomes"
    progress.step("image", 1, 40)
    now[0] += 11.0  # a second a step; 39 are left, and 50 of the next batch
    assert progress.text() == f"{'images':<28}  running   0/4  ETA 1m29s  elapsed 11s  image token 1/40"
    with progress.counted(3):
        pass
    assert "3/4  ETA 39s" in progress.text()


def test_a_policy_that_reports_no_steps_has_the_time_left_of_its_images(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(generate.time, "monotonic", lambda: now[0])
    progress = generate.Progress(total=4, batch=2)
    now[0] = 30.0
    assert progress.text().split() == ["images", "running", "0/4", "elapsed", "30s"]
    with progress.counted(3):
        pass
    assert "ETA 10s" in progress.text()


def test_on_a_terminal_the_line_is_rewritten_and_leaves_nothing_behind(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(generate, "REWRITE_EVERY_S", 0.01)
    with generate.Progress(total=1, batch=1) as progress:
        progress.step("image", 5, 9)
        while "image token 5/9" not in (shown := capsys.readouterr().err):
            pass
        with progress.counted(1):
            print("the sample")
    assert "\n" not in shown
    out, err = capsys.readouterr()
    assert out == "the sample\n" and err.endswith(generate.CLEAR) and "\n" not in err


def test_another_arm_draws_with_another_policy(command, tmp_path):
    for arm in ("baseline", "full"):
        assert command("prompt=x", f"arms={arm}", f"out={arm}")[0] == 0
    one, other = (SampleFolder(tmp_path / arm).rows()[0] for arm in ("baseline", "full"))
    assert one.seed == other.seed and one.chain != other.chain


@pytest.mark.parametrize(
    "prompt", ["a=b, {caption} ${x} 'it''s' \\", "日本の赤い円", "two\nlines", "~x", "-m", "👨‍👩‍👧"]
)
def test_any_text_is_a_prompt(command, tmp_path, prompt):
    assert command(f"prompt={prompt}")[0] == 0
    assert SampleFolder(tmp_path / "generated").rows()[0].prompt == prompt


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "no prompt is given"),
        (["prompt="], "the prompt is empty: ''"),
        (["prompt= \t"], "the prompt is empty"),
        (["prompt=a\x1b[31m"], "characters that are no text"),
        (["prompt=a\udcff"], "characters that are no text"),
        (["prompt=x", "n=0"], "n=0: give a whole number from 1"),
        (["prompt=x", "n=two"], "n=two: give a whole number from 1"),
        (["prompt=x", "out="], "out= is empty"),
        (["prompt=a", "red", "circle"], "'red' is not KEY=VALUE"),
        (["prompt=x", "prompt=y"], "prompt= is given twice"),
        (["prompt=x", "policies.start=7"], "policies.start=7: give a brightness"),
    ],
)
def test_a_mistake_is_answered_before_anything_is_made(command, tmp_path, words, part):
    code, out, err = command(*words)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and part in err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command("prompt=x", "out=file/below")
    assert code == 1
    assert "cannot write" in err and "out=FOLDER" in err
    assert not (tmp_path / "outputs").exists()


def test_a_sample_on_disk(tmp_path):
    image, overlay, chain = generate.write(sample(), tmp_path)
    assert Image.open(image).size == (24, 24)
    assert Image.open(overlay).size == (384, 384)
    assert Image.open(overlay).getcolors(9) != [(384 * 384, (0, 128, 128))]  # the box is drawn
    assert chain.read_text(encoding="utf-8") == VASE + "\n"
    (row,) = SampleFolder(tmp_path).rows()
    assert (row.chain, row.faults, row.image) == (VASE, (), "images/00000.png")


def test_a_row_cut_off_by_a_kill_is_replaced(tmp_path):
    generate.write(sample(), tmp_path)
    with (tmp_path / "samples.jsonl").open("a") as stream:
        stream.write('{"index": 1, "prom')
    generate.write(sample(), tmp_path)
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1]


def test_faults_are_printed_and_control_characters_move_no_cursor(capsys, tmp_path):
    generate.show("1/1", sample("a\x1b[2J vase"), [tmp_path] * 3)
    shown = capsys.readouterr().out
    assert "a\\x1b[2J vase" in shown and "\x1b" not in shown
    assert f"faults  the chain does not end with {END}" in shown


def test_a_prompt_is_read_before_the_count():
    with pytest.raises(UsageError, match="no prompt"):
        generate.read_request({"n": "x"})


@pytest.mark.slow
def test_the_miniature_answers(monkeypatch, capsys, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    tiny = [
        "preset=smoke",
        "policies.vq.steps=2",
        "sft.steps=2",
        "grpo.steps=1",
        "rollout.max_chain_tokens=12",
    ]
    assert generate.main([*tiny, "prompt=a red circle on the left of a blue square"]) == 0
    (row,) = SampleFolder(tmp_path / "generated").rows()
    assert Image.open(tmp_path / "generated" / row.image).size == (24, 24)
    assert row.chain in (tmp_path / "generated" / "chains" / "00000.txt").read_text(encoding="utf-8")


EDITED = "A <|obj_start|>vase<|obj_end|> <|box_start|>(0,0),(500,500)<|box_end|>."


@pytest.mark.parametrize("ending", ["", END, END + "\n"])
def test_it_draws_from_a_chain_in_a_file_or_in_the_word_itself(command, tmp_path, ending):
    (tmp_path / "edited.txt").write_text(EDITED + ending, encoding="utf-8")
    for given in ("plan=edited.txt", f"plan={EDITED}{ending}"):
        code, out, _ = command("prompt=a square", given, "n=2")
        assert code == 0 and EDITED in out
    rows = SampleFolder(tmp_path / "generated").rows()
    assert [row.chain for row in rows] == [EDITED + END] * 4
    image = Image.open(tmp_path / "generated" / rows[0].image)
    assert image.getpixel((0, 0)) == (len(EDITED + END),) * 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.txt", "is no file and plans no object"),
        ("a vase on the left", "is no file and plans no object"),
        ("x" * 400, "is no file and plans no object"),
        (EDITED.replace("500,500", "500,1200"), "the box of object 1 reaches outside 0..1000. Boxes are"),
        (EDITED + END + EDITED, f"holds {END} before its end"),
    ],
)
def test_a_plan_that_cannot_be_drawn_is_refused_before_anything_is_made(command, tmp_path, given, message):
    code, out, err = command("prompt=a square", f"plan={given}")
    assert (code, out) == (2, "") and message in err
    assert not (tmp_path / "outputs").exists() and not (tmp_path / "generated").exists()


def test_a_policy_that_draws_from_the_prompt_alone_takes_no_plan(command, tmp_path):
    code, out, err = command("prompt=a square", f"plan={EDITED}", "policies=sdxl", "trainers=frozen")
    assert (code, out) == (2, "") and "plan= needs a policy that draws from a given chain" in err
