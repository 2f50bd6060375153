"""A loaded tiny Janus, and a random one for log-probs."""

from __future__ import annotations

import copy
from pathlib import Path

import mini_likelihood
import pytest
import torch
from mini_world import TEMPLATE

from policies.janus.policy import JanusPolicy


@pytest.fixture(scope="session")
def policy(janus_folder: Path) -> JanusPolicy:
    return JanusPolicy(janus_folder, template=TEMPLATE, trainable=True)


@pytest.fixture(scope="session")
def start() -> mini_likelihood.Model:
    """Copy it to train or convert it."""
    torch.set_num_threads(1)
    return mini_likelihood.random_model()


@pytest.fixture
def model(start: mini_likelihood.Model) -> mini_likelihood.Model:
    return copy.deepcopy(start)
