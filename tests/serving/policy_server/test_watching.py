"""An anomaly detector beside the policy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from served_policies import EchoPolicy

from vla.conf.models.uniad import UniADTinyConfig
from vla.conf.serving import ServeConfig
from vla.data.anomaly.processor import AnomalyProcessor
from vla.errors import UserError
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.models.materialize import get_model
from vla.serving.policy_server.contract import Served
from vla.serving.policy_server.server import load_score
from vla.serving.policy_server.watching import Watcher

CONFIG = ServeConfig(policy="zero")


def asked(image: np.ndarray) -> PolicyInput:
    return PolicyInput(image[None], np.zeros(8), "x", Episode("served", 0, 0), 0)


def test_it_scores_what_people_would_see() -> None:
    """Upright pictures, each by itself, as the detector's own processor prepares them."""
    config = UniADTinyConfig()
    processor = AnomalyProcessor(config.processor)
    model = get_model(config, seed=1).eval()
    watcher = Watcher(processor, model, Served.of(EchoPolicy(), CONFIG))
    pictures = np.random.default_rng(0).integers(0, 255, (3, 48, 48, 3), dtype=np.uint8)
    scores = watcher.score([asked(picture[::-1]) for picture in pictures])
    assert len(set(scores)) == 3
    assert scores[1] == pytest.approx(watcher.score([asked(pictures[1][::-1])])[0], rel=1e-4)
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].images))
    watcher.score([asked(pictures[2][::-1])])
    expected = processor.images(torch.from_numpy(processor.picture(Image.fromarray(pictures[2]))))
    assert torch.equal(seen[0][0], expected)


def test_there_is_none_or_no_such_run(tmp_path: Path) -> None:
    assert load_score(EchoPolicy(), CONFIG, "cpu") is None
    with pytest.raises(UserError, match="checkpoint"):
        load_score(EchoPolicy(), ServeConfig(policy="zero", watcher=tmp_path), "cpu")
