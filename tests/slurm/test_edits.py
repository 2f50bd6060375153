"""Edits of the checkout while jobs are queued or run."""

from __future__ import annotations

import shutil

LEFT_OUT = shutil.ignore_patterns(
    ".venv", ".git", "outputs", "reports", "*.egg-info", "__pycache__", ".*_cache"
)


def test_edits_of_the_checkout_change_nothing_for_jobs_that_are_queued_or_run(slurm, sweeps, tmp_path):
    """One job is held in its training and five are pending; sources of the policy, the benchmark and
    the harness change.
    """
    shutil.copytree(sweeps.checkout, tmp_path / "checkout", ignore=LEFT_OUT)
    sweeps.checkout, sweeps.toy = tmp_path / "checkout", tmp_path / "checkout" / "tests" / "toy"
    words = ("arms=half,full", "seed=0,1,2", "cluster.max_jobs=1")
    sweep = sweeps.start_held(*words, held=1)
    toy = sweeps.toy / "toy_parts.py"
    before = toy.read_text()
    assert "Score(value=value if" in before and "weight + settings" in before
    edited = before.replace("Score(value=value if", "Score(value=1.0 if").replace(
        "weight + settings", "weight - settings"
    )
    toy.write_text(edited)
    program = sweeps.checkout / "harness" / "evaluation" / "score.py"
    scoring = program.read_text()
    program.write_text("raise RuntimeError('half an edit')\n" + scoring)
    sweeps.release()
    errors = sweeps.end_of(sweep)
    assert sweep.returncode == 0, errors
    sweeps.check(6)
    toy.write_text(before)
    program.write_text(scoring)
    stages = {path: path.stat().st_mtime_ns for path in (sweeps.outputs / "stages").rglob("*")}
    assert sweeps.run(*words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (sweeps.outputs / "stages").rglob("*")} == stages
