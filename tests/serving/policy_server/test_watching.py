"""An anomaly detector beside a served policy."""

from pathlib import Path

import numpy as np
import pytest
from served_policies import EchoPolicy, frame

from vla.conf.serving import ServeConfig
from vla.errors import UserError
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.serving.client import connect
from vla.serving.policy_server.server import load_watch
from vla.serving.watching.watcher import Verdict, Watcher

CONFIG = ServeConfig(policy="zero")


class Brightness(Watcher):
    """Finds bright frames strange."""

    def __init__(self):
        self.threshold, self.seen = None, []

    def look(self, frames):
        self.seen += frames
        return [Verdict(float(item.mean()), bool(item.mean() > 100)) for item in frames]


def test_the_server_shows_the_watcher_the_newest_frame_upright(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    watcher = Brightness()
    monkeypatch.setattr(Watcher, "load", lambda path, device: watcher)
    watch = load_watch(EchoPolicy(), ServeConfig(policy="zero", watcher=tmp_path), "cpu")
    assert watch is not None
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)  # two moments of one camera, rows bottom-up
    watch([PolicyInput(images, np.zeros(8), "x", Episode("served", 0, 0), 0)])
    assert np.array_equal(watcher.seen[0], images[1][::-1])


def test_clients_hear_score_and_alarm(start) -> None:
    watcher = Brightness()
    server = start(EchoPolicy(), watch=lambda inputs: watcher.look([item.images[-1] for item in inputs]))
    with connect(server.url) as client:
        dark, bright = (client.infer({"agentview": frame(value)}, "x") for value in (20, 200))
    assert (dark.anomaly, dark.alarm) == (20.0, False)
    assert (bright.anomaly, bright.alarm) == (200.0, True)
    assert b"vla_alarms_total 1.0" in server.service.metrics.text()[0]


def test_there_is_none_or_no_such_run(tmp_path: Path) -> None:
    assert load_watch(EchoPolicy(), CONFIG, "cpu") is None
    with pytest.raises(UserError, match="checkpoint"):
        load_watch(EchoPolicy(), ServeConfig(policy="zero", watcher=tmp_path), "cpu")
