"""A script that dies by SIGKILL at one of its steps: each of its lines, and each commit, before and after.

usage: dying.py SCRIPT STEP [ARGUMENT...]
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from asyncstore.core import Core


class Steps:
    """Count the steps of a script, and die at one of them.

    :param script: the file.
    :param last: the step; 0 for none.
    """

    def __init__(self, script: str, last: int) -> None:
        self.script = script
        self.left = last

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != self.script:
            return None
        # What stands at the top level, definitions and imports, leaves nothing behind.
        if event == "line" and frame.f_code.co_name != "<module>":
            self.step()
        return self.trace

    def stepping(self, commit: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step_and_commit(*args: Any, **kwargs: Any) -> Any:
            self.step()
            answer = await commit(*args, **kwargs)
            self.step()
            return answer

        return step_and_commit


def main(script: str, last: str, *arguments: str) -> int:
    steps = Steps(script, int(last))
    Core.commit = steps.stepping(Core.commit)  # type: ignore[method-assign]
    sys.argv = [script, *arguments]
    threading.settrace(steps.trace)
    sys.settrace(steps.trace)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        sys.settrace(None)
    return 0
