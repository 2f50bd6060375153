"""The programs `chains` and `samples` with an intervention: paired with the plain samples, and resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mini_world import BENCHMARK, CHOSEN, POLICY, ROLLOUT, FakeWorkspace, Interrupted

from harness.chain_rows import read_chains
from harness.evaluation import draw, intervene, write
from harness.samples import SampleFolder, SampleRow
from harness.seeds import derive

READING = {"roles": "name", "rule": "own"}


def settings(**changes: Any) -> dict[str, Any]:
    evaluation = {
        **CHOSEN,
        "images_per_prompt": 2,
        "batch_size": 3,
        "first_seed": None,
        "rollout": {**ROLLOUT, "max_chain_tokens": 12},
    }
    return {"policy": POLICY, "benchmark": BENCHMARK, "evaluation": {**evaluation, **changes}, "seed": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, janus_folder: Path) -> dict[str, Path]:
    """The folders of plain samples, of two candidates of chains, and of the samples of `own`."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("plain", "chains", "chains-1", "own")}
    policy = {"policy": janus_folder.parent}
    draw.sample(FakeWorkspace(folders["plain"]), settings(), policy)
    for candidate, name in enumerate(("chains", "chains-1")):
        write.write(FakeWorkspace(folders[name]), {**settings(), "candidate": candidate}, policy)
    inputs = {**policy, "chains": folders["chains"]}
    intervene.sample(FakeWorkspace(folders["own"]), with_intervention("own.Own"), inputs)
    return {**folders, **policy}


def with_intervention(path: str, **values: Any) -> dict[str, Any]:
    component = {"_target_": f"harness.interventions.{path}", **values}
    return {**settings(), "intervention": component, "reading": READING}


def drawn(made: dict[str, Path], folder: Path, path: str, **values: Any) -> list[SampleRow]:
    inputs = {name: made[name] for name in ("policy", "chains", "chains-1", "own")}
    intervene.sample(FakeWorkspace(folder), with_intervention(path, **values), inputs)
    return SampleFolder(folder).rows()


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "images").iterdir()}


def test_own_gives_the_plain_samples_and_says_so(made: dict[str, Path]) -> None:
    plain, own = SampleFolder(made["plain"]).rows(), SampleFolder(made["own"]).rows()
    for row, other in zip(plain, own, strict=True):
        origin = other.drawn_from
        assert origin is not None
        assert {**other.to_json(), "drawn_from": None} == {**row.to_json(), "drawn_from": None}
        assert (origin.applied, origin.own_ids, origin.sampled_ids) == (True, True, True)
        assert (origin.nll is None) == (row.chain == "<begin_of_image>")
        assert origin.nll is None or origin.nll > 0
    assert images(made["plain"]) == images(made["own"])


def test_candidates_have_seeds_of_their_own(made: dict[str, Path]) -> None:
    own, other = read_chains(made["chains"]), read_chains(made["chains-1"])
    assert [row.seed for row in own] == [row.seed for row in SampleFolder(made["plain"]).rows()]
    assert other[0].seed == derive(4, "plan", own[0].prompt_id, 0, 1)
    assert [row.ids for row in own] != [row.ids for row in other]
    assert [row.to_prompt() for row in own] == [row.to_prompt() for row in other]


def test_images_of_own_ids_are_those_of_own_and_the_others_are_drawn(
    made: dict[str, Path], tmp_path: Path
) -> None:
    rows, own = drawn(made, tmp_path, "own.Reencoded"), images(made["own"])
    assert any(row.drawn_from and row.drawn_from.own_ids for row in rows)
    for row in rows:
        assert row.drawn_from is not None
        if row.drawn_from.own_ids:
            assert images(tmp_path)[Path(row.image).name] == own[Path(row.image).name]


def test_a_text_that_is_too_long_leaves_the_own_ids(made: dict[str, Path], tmp_path: Path) -> None:
    rows = drawn(made, tmp_path, "own.Reencoded")
    chains = read_chains(made["chains"])
    cut = [row.index for row in chains if row.forced_end]
    assert cut, "twelve ids are too few for some chains of an untrained model"
    for index in cut:
        origin = rows[index].drawn_from
        assert origin is not None
        if not origin.applied:
            assert "rollout.max_chain_tokens=12: raise it" in (origin.reason or "")
            assert origin.own_ids
            assert rows[index].chain == chains[index].chain


def test_no_chain_and_no_caption_are_drawn_with_the_seeds_of_own(
    made: dict[str, Path], tmp_path: Path
) -> None:
    own = SampleFolder(made["own"]).rows()
    without = drawn(made, tmp_path / "no", "parts.NoChain")
    uncaptioned = drawn(made, tmp_path / "un", "captions.Uncaptioned")
    for rows in (without, uncaptioned):
        assert [(row.prompt_id, row.number, row.seed) for row in rows] == [
            (row.prompt_id, row.number, row.seed) for row in own
        ]
    assert {row.chain for row in without} == {"<begin_of_image>"}
    assert {row.drawn_from.nll for row in (*without, *uncaptioned) if row.drawn_from} == {None}
    assert [row.chain for row in uncaptioned] == [row.chain for row in own]
    assert images(tmp_path / "un") != images(made["own"])


def test_fresh_draws_from_the_second_candidate(made: dict[str, Path], tmp_path: Path) -> None:
    rows = drawn(made, tmp_path, "candidates.Fresh")
    assert [row.chain for row in rows] == [row.chain for row in read_chains(made["chains-1"])]


@pytest.mark.parametrize("stop_at", [3, 6])
def test_an_interruption_changes_nothing(made: dict[str, Path], tmp_path: Path, stop_at: int) -> None:
    drawn(made, tmp_path / "whole", "parts.Bare")
    inputs = {name: made[name] for name in ("policy", "chains", "own")}
    work = FakeWorkspace(tmp_path / "cut", stop_at)
    with pytest.raises(Interrupted):
        intervene.sample(work, with_intervention("parts.Bare"), inputs)
    assert len(SampleFolder(tmp_path / "cut").rows()) == stop_at
    drawn(made, tmp_path / "cut", "parts.Bare")
    names = ("whole", "cut")
    assert len({(tmp_path / name / "samples.jsonl").read_bytes() for name in names}) == 1
    assert images(tmp_path / "whole") == images(tmp_path / "cut")


def test_written_chains_survive_an_interruption(
    made: dict[str, Path], janus_folder: Path, tmp_path: Path
) -> None:
    given = {**settings(), "candidate": 0}
    with pytest.raises(Interrupted):
        write.write(FakeWorkspace(tmp_path, stop_at=6), given, {"policy": janus_folder.parent})
    write.write(FakeWorkspace(tmp_path), given, {"policy": janus_folder.parent})
    assert (tmp_path / "chains.jsonl").read_bytes() == (made["chains"] / "chains.jsonl").read_bytes()
