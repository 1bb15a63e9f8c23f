"""What the server's page shows: the newest observation and answer of each client."""

from __future__ import annotations

import base64
import io
import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vla.serving.policy_server.contract import Served
from vla.serving.watching.watcher import Verdict

_CLIENTS = 16  # the page can choose among
_SIDE = 384  # pixels of a picture on the page, at most


@dataclass(frozen=True)
class Moment:
    """
    One answer.

    Attributes:
        client: who asked.
        images: uint8 [S, H, W, 3] as stored.
        instruction: what it was told.
        actions: [chunk, A] as the client got them.
        queue_ms, infer_ms: see `Answer`.
        verdict: see `Answer`.
    """

    client: str
    images: np.ndarray
    instruction: str
    actions: np.ndarray
    queue_ms: float
    infer_ms: float
    verdict: Verdict | None


class Live:
    """
    The newest moment of each of the last clients. Pictures are compressed only when a page asks for them.

    Args:
        served: says which way up pictures are, and what cameras and actions are called.
    """

    def __init__(self, served: Served) -> None:
        self._served = served
        self._numbers = itertools.count(1)
        self._moments: OrderedDict[str, tuple[int, Moment]] = OrderedDict()
        self._lock = threading.Lock()

    def show(self, moment: Moment) -> None:
        """Take an answer."""
        with self._lock:
            self._moments.pop(moment.client, None)
            self._moments[moment.client] = next(self._numbers), moment
            while len(self._moments) > _CLIENTS:
                self._moments.popitem(last=False)

    def state(self, client: str | None = None, after: int = 0) -> dict[str, Any]:
        """
        What a page has to draw, for JSON.

        Args:
            client: whose moment; None or one that is not known: whoever came last.
            after: number of the moment that the page shows already; that one is not sent again.
        """
        with self._lock:
            moments = dict(self._moments)
        found: dict[str, Any] = {"policy": self._served.policy, "clients": sorted(moments), "number": 0}
        if not moments:
            return found
        number, moment = moments.get(client or "") or next(reversed(moments.values()))
        found |= {"number": number, "client": moment.client}
        if number == after:
            return found
        cameras, count = self._served.cameras, len(moment.images)
        frames = [
            {"camera": cameras[i % len(cameras)], "age": (count - 1 - i) // len(cameras), "jpeg": self._jpeg(image)}
            for i, image in enumerate(moment.images)
        ]
        verdict = moment.verdict
        return found | {
            "frames": frames, "instruction": moment.instruction, "actions": np.round(moment.actions, 4).tolist(),
            "names": list(self._served.contract["conventions"]["action_names"]), "anomaly": verdict and verdict.score,
            "alarm": verdict and verdict.alarm,
            "queue_ms": round(moment.queue_ms, 2), "infer_ms": round(moment.infer_ms, 2),
        }  # fmt: skip

    def _jpeg(self, image: np.ndarray) -> str:
        """A data URI."""
        picture = Image.fromarray(np.ascontiguousarray(self._served.upright(image)))
        picture.thumbnail((_SIDE, _SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
