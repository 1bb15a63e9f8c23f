"""Policies to serve: an untrained model, and one whose answer says what it was asked."""

import threading
from typing import Any

import numpy as np

from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.components import ChunkHeadConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.evaluation.simulator.messages import PolicyInput
from vla.models.materialize import get_model
from vla.serving.policy import Policy, ZeroPolicy


class EchoPolicy(ZeroPolicy):
    """Answers with the first pixel, the step, the seed and the length of the instruction. `gate` holds it up."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[int] = []

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        assert self.gate.wait(20)
        self.asked.append(len(inputs))
        if any(item.instruction == "fail" for item in inputs):
            raise RuntimeError("out of memory\nhere")
        chunks = np.zeros((len(inputs), self.chunk_size, 7))
        for chunk, item in zip(chunks, inputs, strict=True):
            chunk[:, 0] = item.images[0, 0, 0, 0]
            chunk[:, 1] = item.step + np.arange(self.chunk_size)
            chunk[:, 2], chunk[:, 3] = item.episode.seed, len(item.instruction)
            chunk[:, 4] = np.nan if item.instruction == "nan" else len(item.images)
            chunk[:, 6] = -1.0
        return chunks


def tiny_policy(**processor: Any) -> Policy:
    """An untrained vggt-tiny with two cameras, the robot's state, and chunks of 8."""
    config = ProcessorConfig(**({"image_size": 28, "proprio": True} | processor))
    model = VGGTTinyConfig(processor=config, action_head=ChunkHeadConfig(chunk_size=8, hidden_dim=32))
    generator = np.random.default_rng(0)
    stats = {
        name: ArrayStatistics.of(generator.uniform(-0.5, 0.9, (200, size)))
        for name, size in (("actions", 7), ("proprio", 8))
    }
    return Policy(
        PretrainConfig(model=model), Processor(config, 8, stats), get_model(model, seed=3), fingerprint="tiny"
    )


def frame(value: int = 0, size: int = 32) -> np.ndarray:
    """uint8 [size, size, 3], all of one value."""
    return np.full((size, size, 3), value, np.uint8)
