from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from atoll.engine.confine import Limits, missing

INHERITED = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
LINUX = sys.platform.startswith("linux")

CHILD = """
import json
from atoll.engine.confine import confine
first = confine()
print(json.dumps([first, confine()]))
"""


HIDDEN_PARENT = """
import os, subprocess, sys
from atoll.engine.confine import Limits, hide
environment = Limits(None, os.getpid(), network=True).to_environment()
assert hide()
subprocess.run([sys.executable, "-c", sys.argv[1]], env=os.environ | environment, check=True)
"""

CURIOUS_CHILD = """
import os
from atoll.engine.confine import confine
print(*confine(), sep=", ")
for name in ("environ", "maps", "stat"):
    try:
        open(f"/proc/{os.getppid()}/{name}", "rb").read()
    except PermissionError:
        print(name, "refused")
    else:
        print(name, "read")
"""


def run(limits: Limits) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD],
        env=INHERITED | limits.to_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_limits_survive_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for limits in (Limits(None, 1), Limits(1 << 30, 77, network=True, devices=True)):
        for key, value in limits.to_environment().items():
            monkeypatch.setenv(key, value)
        assert Limits.take_from_environment() == limits


def test_report_names_what_holds_and_is_given_again() -> None:
    done = run(Limits(4 << 30, os.getpid()))
    first, again = json.loads(done.stdout)
    assert first == again
    assert {"rlimit_core", "rlimit_fsize", "rlimit_nofile"} <= set(first)
    if LINUX:
        assert {"rlimit_as", "no_new_privs", "pdeathsig", "capabilities"} <= set(first)


def test_a_measure_that_is_not_asked_for_is_not_reported() -> None:
    first, _ = json.loads(run(Limits(None, os.getpid(), network=True)).stdout)
    for name in ("rlimit_as", "netns", "seccomp"):
        assert not [entry for entry in first if name in entry]


@pytest.mark.skipif(not LINUX, reason="only Linux tells a child that its parent died")
def test_a_child_whose_parent_is_gone_ends() -> None:
    done = run(Limits(None, 1 if os.getpid() != 1 else 2))
    assert done.returncode != 0
    assert "the parent is gone" in done.stderr


def test_missing_measures_carry_their_reason() -> None:
    report = ("rlimit_core", "no netns: not permitted")
    assert missing(report) == ("no netns: not permitted",)


@pytest.mark.skipif(not LINUX, reason="/proc is of Linux")
def test_a_child_without_a_namespace_of_its_own_reads_no_hidden_parent() -> None:
    """Root's neither; what is no secret, such as its memory figures, stays open."""
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN_PARENT, CURIOUS_CHILD],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    report, *found = done.stdout.splitlines()
    assert "capabilities" in report.split(", ")
    assert "netns" not in report
    assert found == ["environ refused", "maps refused", "stat read"]
