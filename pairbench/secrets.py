"""What may be sent where, and what may be shown: the one place that decides.

A key travels to the address that it was set for, encrypted or within this machine, and by no proxy
that could read it. What is printed, or kept in a file, goes through `shown` first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from pairbench.errors import PairBenchError

JUDGE_KEY = "PAIRBENCH_JUDGE_KEY"
"""The environment variable of the key of a judge behind an endpoint, the only one that is sent."""

SECRET_NAMES = re.compile(
    r"(?:^|_)(?:KEY|SECRET|TOKEN|CREDENTIAL|SIGNATURE)S?(?:_|$)|PASSW", re.IGNORECASE
)
"""Environment variables whose values are shown nowhere."""

IN_A_URL = re.compile(
    r"(?<=[:/]/)(?:[^/@\s]{1,1000}|[^/@\s:]{0,200}:(?!\d{1,5}/)[^@\s]{1,1000})(?=@)"
    r"|(?<=[?&])((?:[\w.-]{0,80}(?:key|secret|token|passw|credential|sig)[\w.-]{0,80}=))[^&\s#'\")]+",
    re.IGNORECASE,
)
"""User and password of a url, and what a query calls a secret."""

PIECE = 8
"""So many characters in a row of a key tell something of it."""


def key_for(url: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns the judge's key to send to an address, or None.

    Raises:
        PairBenchError: it would travel in the clear, or it is none.
    """
    key = environment.get(JUDGE_KEY, "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise PairBenchError(f"{JUDGE_KEY} holds a character that no key has: set it again")
    parts = urlsplit(url)
    if parts.scheme != "https" and not _is_here(parts):
        raise PairBenchError(
            f"{JUDGE_KEY} is not sent to {parts.hostname} over {parts.scheme}, where others can "
            f"read it: use an https address, or set {JUDGE_KEY} to nothing to ask without a key"
        )
    return key


def may_use_proxy(url: str) -> bool:
    """Whether a proxy of the environment may stand between: never before this machine itself."""
    return not _is_here(urlsplit(url))


def _is_here(parts: SplitResult) -> bool:
    try:
        return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def refuse_secrets(url: str, what: str, instead: str) -> None:
    """Refuses a url that holds what may be a secret, since it is kept and shown.

    Raises:
        PairBenchError: it does; the sentence says of what, and what to do instead.
    """
    parts = urlsplit(url)
    if IN_A_URL.search(url) or "@" in parts.netloc or parts.query or parts.fragment:
        raise PairBenchError(
            f"{what} must hold no user name, password, query or fragment: {instead}"
        )


def shown(text: str, key: str | None = None) -> str:
    """Returns text without secrets: those of the environment, those in urls, and a key's pieces."""
    for name, value in os.environ.items():
        if len(value) > 3 and SECRET_NAMES.search(name):
            text = text.replace(value, "***")
    text = IN_A_URL.sub(lambda found: f"{found[1] or ''}***", text)
    return _without_pieces(text, key) if key and len(key) > 3 else text


def _without_pieces(text: str, key: str) -> str:
    """Text without any piece of the key that is long enough to tell something of it."""
    size = min(PIECE, len(key))
    kept: list[str] = []
    end = 0
    for start in range(len(text) - size + 1):
        if text[start : start + size] in key:
            if start > end or not kept:
                kept += [text[end:start], "***"]
            end = start + size
    return "".join([*kept, text[end:]])
