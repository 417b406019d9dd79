from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import blocks_of
from tests.docs.tutorial import PAGE, follow


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_the_tutorial_goes_as_it_says(tmp_path: Path) -> None:
    assert len(follow(tmp_path, install=False)) > 8


def test_every_command_of_the_tutorial_that_shows_something_says_what() -> None:
    # But for those whose output is of no interest: to install, to start in the background, to stop.
    blocks = list(blocks_of(PAGE))
    silent = [
        block.text
        for block, after in zip(blocks, [*blocks[1:], None], strict=True)
        if block.language == "sh" and (after is None or after.language != "text")
    ]
    assert len(silent) == 2
    assert "pip install" in silent[0]
    assert silent[1].startswith("kill ")
