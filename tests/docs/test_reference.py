"""The reference has a place for every name that the packages export, and for no other."""

from __future__ import annotations

import re
from collections import Counter
from types import ModuleType

import pytest

import asyncstore
import asyncstore.fleet
import asyncstore.testing
import triggers
import triggers.testing
from tests.docs.pages import DOCS, blocks_of

# `Fleet` and `TriggererRecord` are exported by `asyncstore`, too.
MODULES = {
    asyncstore: ("asyncstore", set[str]()),
    asyncstore.fleet: ("asyncstore", {"Fleet", "TriggererRecord"}),
    triggers: ("triggers", set[str]()),
    asyncstore.testing: ("testing", set[str]()),
    triggers.testing: ("testing", set[str]()),
}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_exported_name_is_described_once(module: ModuleType) -> None:
    page, elsewhere = MODULES[module]
    text = "".join(block.text for block in blocks_of(DOCS / f"reference/{page}.md"))
    names = re.findall(rf"^\.\. auto(?!module)\w+:: {re.escape(module.__name__)}\.(\w+)$", text, re.MULTILINE)
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert set(names) == set(module.__all__) - elsewhere
