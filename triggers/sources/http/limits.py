"""When a server wants to be asked again."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

__all__ = ["is_exhausted", "seconds_asked"]

#: A server that asks for more, in seconds, is asked after this long.
_LONGEST = 86_400.0
#: Numbers from here on are moments (2001), not spans.
_EPOCH = 1e9


def seconds_asked(headers: Mapping[str, str]) -> float:
    """Give the seconds that an answer asks to wait for; 0 where it does not.

    `Retry-After` (RFC 9110, section 10.2.3: seconds or a date) goes before what says when a quota begins anew:
    `RateLimit-Reset` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers: seconds) and `X-RateLimit-Reset` (no
    standard: seconds, or seconds since 1970).

    :param headers: of the answer; names in any case.
    """
    asked = headers.get("retry-after", "").strip()
    if asked:
        return _bounded(float(asked) if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", asked) else _until(asked))
    for name in ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
            return _bounded(float(text) - time.time() if float(text) >= _EPOCH else float(text))
    spans = re.findall(r";\s*t=(\d{1,12})", headers.get("ratelimit", ""))
    return _bounded(max(map(float, spans))) if spans else 0.0


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _bounded(seconds: float) -> float:
    return min(_LONGEST, max(0.0, seconds))


def is_exhausted(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer says that it was the last one of its quota.

    :param headers: of the answer.
    """
    names = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
    if any(headers.get(name, "").strip() == "0" for name in names):
        return True
    return re.search(r";\s*r=0(?!\d)", headers.get("ratelimit", "")) is not None
