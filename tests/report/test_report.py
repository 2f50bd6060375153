"""The written folder: complete, self-contained, escaped, the same twice, honest about what is missing."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from harness.report.__main__ import main
from harness.report.build import write_report
from harness.report.table import latex, markdown

NASTY_ARM = "w_<b>|&$x$"
NASTY_TEXT = "a <script>alert(1)</script> | red_circle & `tick` *star* \\ $x$"
ERROR = "Traceback (most recent call last):\nRuntimeError: <disk> full & ``` broken"
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Checker(HTMLParser):
    """Notes every tag, unbalanced ones and every reference to something outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.outside += [
            value for name, value in attrs if name in ("src", "href") and not value.startswith(("data:", "#"))
        ]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory, make_study):
    """A report with a failed arm, unscored samples, and text that HTML, Markdown and LaTeX interpret."""
    study = make_study(
        tmp_path_factory.mktemp("nasty"),
        arms={"baseline": 0.3, NASTY_ARM: 0.5, "full": 0.7, "w_PR": 0.4},
        seeds=(0,),
        prompts=12,
        text=NASTY_TEXT,
        question=f"Is {NASTY_TEXT} right?",
        claims={
            "c": {"text": NASTY_TEXT, "better": "full", "than": ["baseline", "w_PR"], "categories": "all"}
        },
        published={
            "columns": ["color", "2D-spatial"],
            "rows": {"baseline": [0.1, 0.1], NASTY_ARM: [0.15, 0.1], "full": [0.2, None]},
        },
        states={("w_PR", 0): ("failed", ERROR)},
        unscored={"baseline": 3},
        facts={"limits": f"Nothing about {NASTY_TEXT}."},
    )
    return study, write_report(study.write(), study.root / "reports")


def read_csv(report: Path, name: str) -> list[dict[str, str]]:
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_promised_file_is_there(nasty):
    _, report = nasty
    assert report.name == "fake"
    assert {"report.md", "index.html", "provenance.json", "tables", "figures"} == {
        file.name for file in report.iterdir()
    }
    tables = {file.name for file in (report / "tables").iterdir()}
    for name in (
        *("table", "scores", "differences_to_baseline", "differences_to_full", "claims", "contrasts"),
        "claim_parts",
        *("published", "rank_correlation", "split_unseen", "split_phrasing"),
        *("training", "counts", "cells", "cost"),
    ):
        assert {f"{name}.csv", f"{name}.md", f"{name}.tex"} <= tables
    figures = {file.name for file in (report / "figures").iterdir()}
    for name in ("scores", "claims", "published", "rewards", "components"):
        assert {f"{name}.png", f"{name}.svg"} <= figures
    assert "gallery.png" in figures


def test_the_page_is_well_formed_and_needs_nothing_outside(nasty):
    page = (nasty[1] / "index.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    assert checker.faults == [] and checker.open == []
    assert checker.outside == []
    assert "script" not in checker.tags and "b" not in checker.tags
    assert "url(" not in page and "@import" not in page


def test_the_report_names_the_commit_and_the_digest_of_the_frozen_code(nasty):
    report = nasty[1]
    origin = json.loads((report / "provenance.json").read_text(encoding="utf-8"))
    assert origin["commits"] == ["c0ffee"] and origin["code"] == ["0123456789ab"]
    assert "- commits: c0ffee\n- code: 0123456789ab\n" in (report / "report.md").read_text(encoding="utf-8")
    assert "<dd>0123456789ab</dd>" in (report / "index.html").read_text(encoding="utf-8")


def test_user_text_is_shown_as_it_was_written(nasty):
    report = nasty[1]
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | red_circle &amp; `tick`" in page
    assert "w_&lt;b&gt;|&amp;$x$" in page
    text = (report / "report.md").read_text(encoding="utf-8")
    assert r"\<script\>alert(1)\</script\> \| red\_circle \& \`tick\` \*star\* \\ \$x\$" in text
    assert "<script" not in text.replace("\\<script", "")
    assert r"w\_\textless{}b\textgreater{}\textbar{}\&\$x\$" in (report / "tables" / "table.tex").read_text(
        encoding="utf-8"
    )


def test_the_report_says_what_the_study_cannot_say(nasty):
    report = nasty[1]
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "<strong>What this study cannot say.</strong> Nothing about a &lt;script&gt;alert(1)" in page
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "\nWhat this study cannot say: Nothing about a \\<script\\>alert(1)" in text


def test_markdown_tables_keep_their_columns(nasty):
    for file in (nasty[1] / "tables").glob("*.md"):
        widths = {
            len(re.findall(r"(?<!\\)\|", line)) for line in file.read_text(encoding="utf-8").splitlines()
        }
        assert len(widths) == 1, file.name


def test_table_csv_has_a_row_per_arm_and_a_column_per_category(nasty):
    rows = read_csv(nasty[1], "table")
    assert [row["arm"] for row in rows] == ["baseline", NASTY_ARM, "full", "w_PR"]
    assert list(rows[0]) == ["arm", "mean", "mean_low", "mean_high", "color", "2D-spatial"]
    assert float(rows[2]["color"]) == pytest.approx(0.7, abs=0.1)
    means = [float(rows[2][name]) for name in ("color", "2D-spatial", "mean", "mean_low", "mean_high")]
    assert sum(means[:2]) / 2 == pytest.approx(means[2], abs=1e-5)
    assert means[3] < means[2] < means[4]


def test_a_failed_cell_is_visible_everywhere_and_never_zero(nasty):
    report = nasty[1]
    failed = read_csv(report, "table")[3]
    assert (failed["color"], failed["2D-spatial"]) == ("failed", "failed")
    assert (failed["mean"], failed["mean_low"], failed["mean_high"]) == ("failed", "", "")
    page, text = ((report / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    assert "RuntimeError: &lt;disk&gt; full &amp; ``` broken" in page
    assert f"````text\n{ERROR}\n````" in text
    assert "1 of 4 cells missing" in page
    (contrast,) = [row for row in read_csv(report, "contrasts") if row["than"] == "w_PR"]
    assert (contrast["outcome"], contrast["reason"], contrast["effect"]) == (
        "not measured",
        "w_PR failed",
        "",
    )
    parts = [row for row in read_csv(report, "claim_parts") if row["than"] == "w_PR"]
    assert {(row["reason"], row["effect"]) for row in parts} == {("w_PR failed", "")}
    assert read_csv(report, "claims")[0]["verdict"] == "undecided"
    assert "failed" in (report / "tables" / "differences_to_baseline.md").read_text(encoding="utf-8")


def test_the_words_for_verdicts_are_explained_where_the_reader_meets_them(nasty):
    for name, before, after in (
        ("index.html", "<h2>Claims</h2>", 'class="claim"'),
        ("report.md", "## Claims", "!["),
    ):
        section = (nasty[1] / name).read_text(encoding="utf-8").partition(before)[2].partition(after)[0]
        for word in ("reproduced", "contradicted", "not supported", "undecided", "not measured"):
            assert re.search(rf"(<strong>|\*\*){word}(</strong>|\*\*): ", section), (name, word)
        assert "margin 0.02" in section and "a smaller gain costs more than it brings" in section


def test_unscored_samples_are_counted_and_excluded_pairwise(nasty):
    report = nasty[1]
    baseline = next(
        row for row in read_csv(report, "scores") if row["arm"] == "baseline" and row["category"] == "color"
    )
    assert (baseline["prompts"], baseline["unscored_prompts"]) == ("9", "3")
    pair = next(
        row
        for row in read_csv(report, "differences_to_baseline")
        if row["arm"] == "full" and row["category"] == "color"
    )
    assert (pair["prompts"], pair["excluded_prompts"]) == ("9", "3")
    assert read_csv(report, "counts")[0]["unscored_samples"] == "3"


def test_the_gallery_shows_the_same_prompts_for_all_arms(nasty):
    page = (nasty[1] / "index.html").read_text(encoding="utf-8")
    exhibits = page.split('<div class="tiles">')[1:]
    assert len(exhibits) == 4  # two per category
    for exhibit in exhibits:
        tiles = exhibit.split("</div>\n<h3>")[0].split('<figure class="tile">')[1:]
        assert len(tiles) == 4
        prompts = set(re.findall(r'alt="[^"]*?: ([^"]*)"', "".join(tiles)))
        assert len(prompts) == 1
        assert "no image" in tiles[3] and "failed" in tiles[3]


def test_the_report_is_small_and_its_images_can_be_read(nasty):
    report = nasty[1]
    assert sum(file.stat().st_size for file in report.rglob("*") if file.is_file()) < 3_000_000
    for file in (report / "figures").glob("*.png"):
        with Image.open(file) as image:
            assert image.width > 200


def test_writing_again_gives_the_same_bytes_and_leaves_nothing_behind(nasty):
    study, report = nasty
    before = {file.relative_to(report): file.read_bytes() for file in report.rglob("*") if file.is_file()}
    (report / "stale.txt").write_text("from an earlier version")
    assert write_report(study.folder, study.root / "reports") == report
    after = {file.relative_to(report): file.read_bytes() for file in report.rglob("*") if file.is_file()}
    assert after == before
    assert [file.name for file in (study.root / "reports").iterdir()] == ["fake"]


def test_a_study_of_which_nothing_is_measured_still_reports(fake_study):
    study = fake_study(
        arms={"baseline": 0.3, "full": 0.5},
        seeds=(0,),
        states={("baseline", 0): ("failed", None), ("full", 0): ("lost", None)},
        claims={"c": {"text": "full wins", "better": "full", "than": "baseline", "categories": "all"}},
    )
    report = write_report(study.write(), study.root / "reports")
    assert [list(row.values()) for row in read_csv(report, "table")] == [
        ["baseline", "failed", "", "", "failed", "failed"],
        ["full", "lost", "", "", "lost", "lost"],
    ]
    assert read_csv(report, "claims")[0]["verdict"] == "not measured"


def test_a_folder_that_is_no_report_is_left_alone(fake_study):
    study = fake_study(seeds=(0,), prompts=2)
    precious = study.root / "reports" / "fake" / "precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with pytest.raises(ValueError, match="is not a report and is left alone"):
        write_report(study.write(), study.root / "reports")
    assert precious.read_text() == "mine"


def test_a_place_that_cannot_be_written_says_so(fake_study):
    study = fake_study(seeds=(0,), prompts=2)
    blocked = study.root / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match=r"cannot write the report .* choose another reports_dir"):
        write_report(study.write(), blocked)


def test_the_command_writes_a_report_and_lists_studies_it_does_not_know(fake_study, capsys):
    study = fake_study(seeds=(0,), prompts=2, arms={"baseline": 0.1, "full": 0.2})
    study.write()
    places = ["--outputs", str(study.outputs), "--reports", str(study.root / "reports")]
    assert main(["fake", *places]) == 0
    assert Path(capsys.readouterr().out.strip()) == study.root / "reports" / "fake" / "index.html"
    assert main(["fakee", *places]) == 1
    assert "known: fake" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "in_markdown", "in_latex"),
    [
        ("a|b_c", r"a\|b\_c", r"a\textbar{}b\_c"),
        ("<i>&amp;", r"\<i\>\&amp;", r"\textless{}i\textgreater{}\&amp;"),
        ("100% \\x{y}", r"100% \\x\{y\}", r"100\% \textbackslash{}x\{y\}"),
        ("two\nlines", "two lines", "two lines"),
        ("−0.5", "−0.5", "$-$0.5"),
    ],
)
def test_escapes(text, in_markdown, in_latex):
    assert (markdown(text), latex(text)) == (in_markdown, in_latex)
