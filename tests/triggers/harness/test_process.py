from __future__ import annotations

import os
import subprocess
import sys

import pytest

from triggers.harness.process import is_gone, this_process

SCRIPT = "from triggers.harness.process import this_process; print(this_process(), flush=True); input()"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nobody can tell")
def test_a_process_of_this_machine_is_gone_once_it_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        assert name.split("/")[2] == str(child.pid)
        assert not is_gone(name)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(name)  # whether or not its parent has taken note
        child.wait()
        assert is_gone(name)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nobody can tell")
def test_another_process_with_the_same_number_is_another_one() -> None:
    name = this_process()
    assert name is not None
    assert not is_gone(name)
    machine, _, _ = name.rpartition("/")
    assert is_gone(f"{machine}/1")


@pytest.mark.parametrize("name", [None, "", "elsewhere/1/2/3", "elsewhere"])
def test_in_doubt_it_is_there(name: str | None) -> None:
    assert not is_gone(name)


def test_what_is_no_name_is_there() -> None:
    name = this_process()
    if name is not None:
        machine = "/".join(name.split("/")[:2])
        assert not is_gone(f"{machine}/what/ever/this/is")
        assert not is_gone(f"{machine}/x/1")
        assert is_gone(f"{machine}/4194999/1")  # beyond the largest number that a process has
