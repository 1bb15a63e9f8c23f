"""The Hugging Face hub: whether it answers, and whether the token is good. Never waits long, never fails offline."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from vla.overwatch.findings import Finding

SECTION = "Hugging Face hub"
TIMEOUT = 3.0  # seconds for each question
_LOCAL = "weights must be in the cache or in folders: --model.llm.weights DIR, or --model.pretrained false"


def check(timeout: float = TIMEOUT) -> Iterator[Finding]:
    """Ask the hub; a token is sent to the hub's own address only, and never shown."""
    from huggingface_hub import constants, get_token

    token = get_token()
    if constants.HF_HUB_OFFLINE:
        advice = "unset HF_HUB_OFFLINE to download; until then " + _LOCAL
        yield Finding("hub", "note", "HF_HUB_OFFLINE forbids asking", advice, SECTION)
        yield _present(token)
        return
    endpoint = constants.ENDPOINT
    answer = within(timeout + 1.0, lambda: _get(f"{endpoint}/api/models?limit=1", None, timeout))
    if answer is None or answer[0] >= 500:
        said = "does not answer" if answer is None else f"answers with an error (HTTP {answer[0]})"
        yield Finding("hub", "note", f"{endpoint} {said}", f"behind a proxy set HTTPS_PROXY; else {_LOCAL}", SECTION)
        yield _present(token)
        return
    yield Finding("hub", "ok", f"{endpoint} answers", section=SECTION)
    yield _token(endpoint, token, timeout)


def _present(token: str | None) -> Finding:
    detail = "there is one, which could not be checked" if token else "none"
    advice = "" if token else "gated models (Llama 2) need one: hf auth login"
    return Finding("token", "note", detail, advice, SECTION)


def _token(endpoint: str, token: str | None, timeout: float) -> Finding:
    if not token:
        return _present(None)
    answer = within(timeout + 1.0, lambda: _get(f"{endpoint}/api/whoami-v2", token, timeout))
    if answer is None or answer[0] not in (200, 401, 403):
        return _present(token)
    if answer[0] == 200:
        return Finding("token", "ok", f"of {answer[1].get('name', 'somebody')}", section=SECTION)
    source = "the variable HF_TOKEN holds it" if os.environ.get("HF_TOKEN") else "hf auth login makes another"
    return Finding("token", "warning", "the hub refuses it", f"it is wrong or has expired; {source}", SECTION)


def within(seconds: float, function: Callable[[], Any]) -> Any:
    """What `function` returns; None if it fails or takes longer (the look-up of a name has no timeout of its own)."""
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(function())
        except Exception:  # of the network, in many classes
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


class _StayHere(HTTPRedirectHandler):
    """Follows no redirection, since the token would go along."""

    def redirect_request(self, *given: Any) -> None:
        """None: the redirection itself is the answer."""


def _get(address: str, token: str | None, timeout: float) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of an address."""
    headers = {"User-Agent": "vla-doctor", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with build_opener(_StayHere).open(Request(address, headers=headers), timeout=timeout) as answer:
            body = answer.read(2**20)
            status = answer.status
    except HTTPError as error:
        return error.code, {}
    try:
        values = json.loads(body)
    except ValueError:
        values = {}
    return status, values if isinstance(values, dict) else {}
