"""The contract between the harness and its plugins: one file per role.

Roles with optional members are base classes with defaults: a plugin subclasses them and overrides the
members it needs. The other roles are Protocols: a class with their members fits, without subclassing.

A class named by `_target_` in a YAML file is also constructed on the login node, to check its settings and
to declare stages. Keep constructors light, and import torch inside methods.

Nothing here decides a number, and no stage's key counts these files: a default is a constant, and a method
without a default raises NotImplementedError.
"""

from harness.protocols.benchmark import Benchmark, Scorer
from harness.protocols.data import Entry, TrainingData
from harness.protocols.expert import (
    DepthEstimator,
    Detector,
    Expert,
    Grounder,
    Judge,
    Labeled,
    ModelJudge,
    ObjectDetector,
    Similarity,
    Vqa,
)
from harness.protocols.gpu import GpuBench, GpuPhase, Measured
from harness.protocols.needing import Needing
from harness.protocols.objective import Advantage, Ratio
from harness.protocols.policy import ImageSource, Policy, PolicyRecipe
from harness.protocols.race import Race
from harness.protocols.real_size import RealSize
from harness.protocols.reward import Component
from harness.protocols.sizes import ModelSizes
from harness.protocols.stage import Workspace
from harness.protocols.trainer import Trainer

__all__ = [
    "Advantage",
    "Benchmark",
    "Component",
    "DepthEstimator",
    "Detector",
    "Entry",
    "Expert",
    "GpuBench",
    "GpuPhase",
    "Grounder",
    "ImageSource",
    "Judge",
    "Labeled",
    "Measured",
    "ModelJudge",
    "ModelSizes",
    "Needing",
    "ObjectDetector",
    "Policy",
    "PolicyRecipe",
    "Race",
    "Ratio",
    "RealSize",
    "Scorer",
    "Similarity",
    "Trainer",
    "TrainingData",
    "Vqa",
    "Workspace",
]
