"""URLs: what may be shown of them, and how a query parameter is set without touching the others."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

__all__ = ["check_url", "is_credential", "masked", "origin", "secrets_in", "shown", "with_parameter"]

#: Parts of names that only credentials have, once case and punctuation are gone, and whole names.
_PARTS = (
    *("apikey", "accesskey", "authkey", "secret", "token", "password", "passwd", "passphrase", "credential"),
    *("signature", "authorization", "cookie", "jwt", "subscriptionkey", "functionskey"),
)
_WHOLE = {"key", "auth", "sig", "sign", "code", "pass", "pwd", "pw", "appid", "session", "sessionid", "sid"}
_PORTS = {"http": 80, "https": 443}


def is_credential(name: str) -> bool:
    """Tell whether a header or parameter of that name holds a secret, usually.

    :param name: its name.
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain in _WHOLE or plain.removeprefix("x") in _WHOLE or any(part in plain for part in _PARTS)


def check_url(url: str) -> None:
    """Refuse what is no URL of an API.

    :param url: the URL.
    :raises ValueError: it is none; shows nothing of it but its scheme.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("the URL cannot be read; write https://host/path") from None
    if parts.scheme not in _PORTS:
        raise ValueError(f"allowed are http:// and https://, not {parts.scheme or 'a URL without a scheme'}")
    if not parts.hostname or "$" in parts.netloc or re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError(f"the URL has no host, or holds blanks; write {parts.scheme}://host/path")


def origin(url: str) -> tuple[str, str, int | None]:
    """Give what credentials are for: scheme, host and port.

    :param url: the URL.
    :raises ValueError: the port is no number.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def masked(url: str) -> str:
    """Give a URL that names the same thing without any secret: no user part, `***` for parameters that hold one.

    :param url: the URL.
    """
    parts = urlsplit(url)
    query = "&".join(_hidden(each) for each in parts.query.split("&"))
    return urlunsplit((parts.scheme, _host(url).lower(), parts.path, query, ""))


def _hidden(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    return f"{name}{equals}***" if value and is_credential(unquote_plus(name)) else parameter


def shown(url: str) -> str:
    """Give of a URL that somebody else wrote what certainly is no secret: all but the user part and the query.

    :param url: the URL.
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _host(url), parts.path, "..." if parts.query else "", ""))


def secrets_in(url: str) -> list[str]:
    """List the texts of a URL that no message may show.

    :param url: the URL.
    """
    parts = urlsplit(url)
    found = [parts.username, parts.password]
    for each in parts.query.split("&"):
        name, _, value = each.partition("=")
        if is_credential(unquote_plus(name)):
            found += [value, unquote_plus(value)]
    return [each for each in found if each]


def with_parameter(url: str, name: str, value: str) -> str:
    """Set a query parameter, and leave the others as they are written.

    :param url: the URL.
    :param name: of the parameter.
    :param value: its value, not encoded.
    """
    parts = urlsplit(url)
    kept = [each for each in parts.query.split("&") if each and unquote_plus(each.partition("=")[0]) != name]
    query = "&".join([*kept, f"{quote(name, safe='')}={quote(value, safe='')}"])
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
