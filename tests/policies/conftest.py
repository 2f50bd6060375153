"""A loaded tiny Janus."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_world import TEMPLATE

from policies.janus.policy import JanusPolicy


@pytest.fixture(scope="session")
def policy(janus_folder: Path) -> JanusPolicy:
    return JanusPolicy(janus_folder, template=TEMPLATE, trainable=True)
