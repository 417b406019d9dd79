"""Texts and values that backends are known to get wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from ..values import MAX_NESTING

__all__ = ["HARDLY_JSON", "REFUSED_KINDS", "TEXTS", "VALUES", "longest", "nested", "refused"]

#: Keys, ids and names that are all different, each shorter than 250 bytes.
TEXTS: tuple[str, ...] = (
    *("a", "A", " ", "a ", " a", "a b", "a\tb", "a\n", "\r\n", "\x01", "\x1b[0m", "\x7f", "\x80", "\u2028"),
    *("/", "//", "a/b", "/a", "a/", "a//b", "a%2Fb", "%2F", "\\", "a\\b", "C:\\a", "\\\\host\\a", "file:///a", "~"),
    *(".", "..", "...", "../a", "../../etc/passwd", "a/../b", "./a", ".hidden", "a.", "con", "nul", "assets", "a:b"),
    *("'", "''", '"', "`", "'; DROP TABLE a; --", "$1", ":a", "?", "%", "%%", "%s", "_", "{}", "{0}", "$a", "a=b&c"),
    *("*", "a*", "[a]", "#", "a#2", "<a>", "|", "null", "true", "0", "-1", "00", "1e3", "+", ",", ";", "@", "!"),
    *(
        "é",
        "e\u0301",
        "ß",
        "ss",
        "İ",
        "i\u0307",
        "ı",
        "K",
        "\u212a",
        "日本語",
        "עברית",
        "\u202eabc",
        "\u200b",
        "\ufeff",
    ),
    *("🙂", "👩\u200d👩\u200d👧", "\ud7ff", "\ue000", "\ufffd", "\uffff", "\U00010000", "\U0010ffff", "a\U0010ffff"),
)


def longest(limit: int) -> list[str]:
    """Give different texts of the greatest length allowed.

    :param limit: how many bytes of UTF-8 are allowed; divisible by 2.
    """
    fill = limit % 4
    return [
        "x" * limit,
        "x" * (limit - 1) + "y",
        "x" * (limit - 1),
        "é" * (limit // 2),
        "y" * fill + "🙂" * (limit // 4),
    ]


def refused(limit: int) -> list[str]:
    """Give texts that cannot be keys, ids or names.

    :param limit: how many bytes of UTF-8 are allowed.
    """
    many = limit // 2 + 1
    return ["", "\0", "a\0", "\0a", "a\0b", "\ud800", "\udfff", "a\udc80b", "x" * (limit + 1), "é" * many, "🙂" * many]


def nested(depth: int) -> Any:
    """Give a value of so many lists and dicts inside each other.

    :param depth: how many.
    """
    value: Any = []
    for level in range(depth - 1):
        value = [value] if level % 2 else {"a": value}
    return value


#: What a backend may mistake for something of its own.
HARDLY_JSON: tuple[Any, ...] = (
    *("", " ", "null", "true", "0", "[]", "{}", '"', '""', "\\", "\\u0000", "\0", "a\0b", "\x7f\x80", "\u2028\u2029"),
    *("asyncstore:expires_at", '{"asyncstore:expires_at":1,"value":2}'),
    {"asyncstore:expires_at": 1, "value": 2},
    {"asyncstore:expires_at": None, "value": 2},
    {"asyncstore:expires_at": "1", "value": [None]},
    {"asyncstore:expires_at": 1},
    {"value": {"asyncstore:expires_at": 1, "value": 2}},
)

#: Values, which come back equal, of the same types, and in the same order.
VALUES: tuple[Any, ...] = (
    *HARDLY_JSON,
    *("é", "🙂", "e\u0301", "\ud7ff\ue000\uffff\U0010ffff", "x" * 10_000, "'; DROP TABLE a; --", "%s", "$1"),
    *(0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, True, False),
    *(0.0, -0.0, 0.1, 1.0, 1e16, 1e22, 5e-324, 1.7976931348623157e308, -1.5e-7),
    *([], {}, [None], {"a": None}, [[], {}, [[]]], {"": {"": ""}}, [1, "1", 1.0, True, None]),
    *({"b": 1, "a": 2}, {"a\0": "\0"}, {"é": ["🙂"]}, {"\n": "\t"}, list(range(500)), nested(MAX_NESTING)),
)

_itself: list[Any] = []
_itself.append(_itself)

#: What is no value, why, and what the error says.
REFUSED_KINDS: tuple[tuple[Any, type[Exception], str], ...] = (
    (None, ValueError, "delete"),
    (datetime(2026, 1, 1, tzinfo=UTC), TypeError, r"value\.isoformat\(\)"),
    ([{"at": date(2026, 1, 1)}], TypeError, r"value\.isoformat\(\)"),
    (time(1, 2), TypeError, r"value\.isoformat\(\)"),
    (timedelta(1), TypeError, r"value\.total_seconds\(\)"),
    (b"bytes", TypeError, "base64"),
    (bytearray(b"bytes"), TypeError, "base64"),
    ({1, 2}, TypeError, r"sorted\(value\)"),
    (frozenset("a"), TypeError, r"sorted\(value\)"),
    (Decimal("1.5"), TypeError, r"str\(value\)"),
    (1j, TypeError, "real"),
    (object(), TypeError, "object"),
    ({1: "a"}, TypeError, "str"),
    ([{"a": {None: 1}}], TypeError, "str"),
    ({("a", "b"): 1}, TypeError, "str"),
    (float("nan"), ValueError, "JSON"),
    (float("inf"), ValueError, "JSON"),
    ([{"a": [float("-inf")]}], ValueError, "JSON"),
    ("\ud800", ValueError, "surrogate"),
    (["a", {"a\udfff": 1}], ValueError, "surrogate"),
    (10**5000, ValueError, "string"),
    ([10**5000], ValueError, "string"),
    (nested(MAX_NESTING + 1), ValueError, "nested"),
    (_itself, ValueError, "itself"),
)
