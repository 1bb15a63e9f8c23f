"""Who may ask: a token, and for browsers the page's own origin."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from vla.conf.serving import ServeConfig
from vla.errors import UserError

TOKEN_VARIABLE = "VLA_SERVE_TOKEN"
_SCHEMES = ("bearer", "api-key")  # the second is what openpi's client sends


def read_token(config: ServeConfig) -> str | None:
    """
    The token that clients must know; None: anybody may ask.

    Raises:
        UserError: the file can't be read, or holds none.
    """
    if config.token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        lines = config.token_file.expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"token_file: can't be read: {error}") from error
    if not lines:
        raise UserError(f"token_file: must hold a token in its first line, got an empty file: {config.token_file}")
    return lines[0]


def is_allowed(headers: Mapping[str, str], token: str | None) -> bool:
    """Whether a request has the token, as `Authorization: Bearer TOKEN` or `Api-Key TOKEN`."""
    if token is None:
        return True
    scheme, _, given = headers.get("authorization", "").partition(" ")
    known = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    return scheme.lower() in _SCHEMES and known


def is_own_origin(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from no browser, or from a page of this server; other sites may not use a visitor's."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")
