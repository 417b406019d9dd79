"""Values as messages show them: on one line, not too long, without passwords."""

from __future__ import annotations

import re
from typing import cast

__all__ = ["mask_password", "printable", "show", "show_unknown"]

_MASK = "***"
_MAX_CHARACTERS = 200

_SCHEME = re.compile(r"\s*[\w+.-]+://")
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)
# `?password=...` of a URL, and the `password=...` of a connection string that is none.
_SECRET_PARAMETER = re.compile(r"(?:^|[?&;\s])[^=&;\s]*(?:pass|pwd|secret|token)[^=&;\s]*=([^&]*)", re.IGNORECASE)
# Without an "@" what follows the colon is a port, unless the host was forgotten.
_NOT_A_PORT = re.compile(r"://[^/?#:\[]*:(?!\d*(?:[/?#'\",\s]|$))([^/?#]+)")


def mask_password(text: str) -> str:
    """Replace the passwords of a URL by `***`.

    Made for messages, where the text may be no valid URL at all: in doubt it hides too much.

    :param text: a URL, or a text that holds one.
    :return: the text without the password of its user part and without the secrets of its query.
    """
    spans = [match.span(1) for match in _SECRET_PARAMETER.finditer(text)]
    scheme = _SCHEME.match(text)
    colon, at = text.find(":", scheme.end() if scheme else 0), text.rfind("@")
    if 0 <= colon < at:
        # A password may itself hold an "@" that somebody forgot to quote, so the last one counts.
        spans.append((colon + 1, at))
    else:
        spans += [match.span(1) for match in _NOT_A_PORT.finditer(text)]
    masked, position = "", 0
    for start, end in sorted(spans):
        if start >= position:
            masked += text[position:start] + _MASK
        position = max(position, end)
    return masked + text[position:]


def printable(text: str) -> str:
    """Escape line breaks, control characters and lone surrogates.

    :param text: any text.
    :return: one line that every terminal and log can take.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(value: object) -> str:
    """Give a value as a message shows it.

    :param value: anything that a source of settings can hold.
    :return: one printable line of limited length, passwords masked.
    """
    if isinstance(value, str):
        text = repr(mask_password(value))
    elif isinstance(value, dict):
        text = "{...}"
    elif isinstance(value, list):
        items = cast("list[object]", value)
        text = f"[{', '.join('[...]' if isinstance(item, list) else show(item) for item in items)}]"
    else:
        try:
            text = mask_password(repr(value))
        except ValueError:  # Python does not print integers of thousands of digits
            text = "a number of thousands of digits"
    text = printable(text)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."


def show_unknown(name: str, value: object) -> str:
    """Give the value of an option that does not exist, unless its name says that it is a secret.

    :param name: how the source names the option.
    :param value: what the source gives it.
    :return: as `show`.
    """
    return repr(_MASK) if _SECRET_NAME.search(name) else show(value)
