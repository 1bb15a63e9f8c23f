"""The page: what it is told, and what a browser makes of it."""

import base64
import io
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served_policies import EchoPolicy, frame

from vla.conf.serving import ServeConfig
from vla.serving.client import connect
from vla.serving.policy_server.contract import Served
from vla.serving.policy_server.live import Live, Moment
from vla.serving.watching.watcher import Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def moment(client: str, **changes: Any) -> Moment:
    values = {"images": frame(9, 24)[None], "instruction": "pick", "actions": np.zeros((8, 7))} | changes
    return Moment(client, queue_ms=1.0, infer_ms=2.0, verdict=None, **values)


def test_the_newest_moment_of_each_client() -> None:
    live = Live(Served.of(EchoPolicy(), ServeConfig(policy="zero")))
    assert live.state()["number"] == 0
    for number in range(20):
        live.show(moment(f"robot {number:02d}", instruction=str(number)))
    newest = live.state()
    assert newest["instruction"] == "19" and newest["number"] == 20 and len(newest["clients"]) == 16
    assert live.state("robot 10")["instruction"] == "10" and live.state("robot 00")["instruction"] == "19"
    assert "frames" not in live.state(after=20) and "frames" in live.state("robot 10", after=20)


def test_pictures_are_shown_upright() -> None:
    live = Live(Served.of(EchoPolicy(), ServeConfig(policy="zero")))
    stored = np.zeros((1, 800, 400, 3), np.uint8)
    stored[:, -100:] = 255  # the last row of a bottom-up picture is the scene's top
    live.show(moment("robot", images=stored))
    data = base64.b64decode(live.state()["frames"][0]["jpeg"].partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    assert pixels.shape == (384, 192, 3) and pixels[:40].mean() > 240 and pixels[60:].mean() < 10


def test_the_page_loads_nothing_from_elsewhere(start: Any) -> None:
    server = start(EchoPolicy())
    for name in ("", "live.js", "live.css"):
        with urllib.request.urlopen(f"{server.url}/{name}", timeout=20) as response:
            assert "default-src 'none'" in response.headers["content-security-policy"]
            text = response.read().decode()
        assert "https://" not in text and text.count("http://") == ("w3.org" in text)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_it(start: Any, tmp_path: Path) -> None:
    server = start(EchoPolicy(), watch=lambda inputs: [Verdict(0.125, True)] * len(inputs))
    with connect(server.url) as client:
        client.infer({"agentview": frame(200)}, "pick up the <b>milk</b>")
    assert CHROMIUM is not None
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    words.append(f"--user-data-dir={tmp_path}")  # of no browser that runs already
    page = subprocess.run([*words, server.url], capture_output=True, text=True, timeout=120, check=True).stdout
    assert "pick up the &lt;b&gt;milk&lt;/b&gt;" in page and ">0.125 alarm<" in page and ">live<" in page
    assert "data:image/jpeg" in page and page.count("<polyline") == 7 and "agentview" in page
