"""Policies to measure where no checkpoint is named."""

import numpy as np

from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.components import ChunkHeadConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.models.materialize import get_model
from vla.serving.policy import Policy


def tiny_policy() -> Policy:
    """vggt-tiny at random, predicting 8 actions."""
    model = VGGTTinyConfig(action_head=ChunkHeadConfig(chunk_size=8))
    generator = np.random.default_rng(0)
    statistics = {
        name: ArrayStatistics.of(generator.normal(size=(100, d))) for name, d in (("actions", 7), ("proprio", 8))
    }
    return Policy(PretrainConfig(model=model), Processor(model.processor, 8, statistics), get_model(model))
