"""What systemd and launchd are told about a node, and whether they understand it."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from atoll.cli.app import EXIT_CODES
from atoll.domain.errors import BadRequest
from atoll.node.service import FINAL_EXITS, UNIT_FILE, Service, launchd_plist, systemd_unit

KEYS = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": bool,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
    "StandardErrorPath": str,
    "UserName": str,
}
"""Keys and their types by launchd.plist(5)."""
ODD = ("a b", 'say "so"', "100%", "$HOME", "back\\slash", "it's", "semi;colon", "ü", "%h", "")


def make(
    tmp_path: Path, *arguments: str, account: str | None = None, **environment: str
) -> Service:
    home = tmp_path / "home of 100%"
    home.mkdir(exist_ok=True)
    return Service(
        command=("/bin/echo", *arguments),
        home=home,
        store=tmp_path / "store",
        account=account,
        environment=environment,
    )


def value_of(unit: str, name: str) -> str:
    [value] = [
        line.partition("=")[2] for line in unit.splitlines() if line.partition("=")[0] == name
    ]
    return value


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("account", [None, "root"])
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path, account: str | None) -> None:
    file = tmp_path / UNIT_FILE
    file.write_text(systemd_unit(make(tmp_path, *ODD, account=account, NAME='a "b" %c $d')))

    def faults() -> list[str]:
        verify = ["systemd-analyze", *(() if account else ("--user",)), "verify", str(file)]
        done = subprocess.run(
            verify,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        said = [line for line in done.stderr.splitlines() if UNIT_FILE in line]
        return said or ([done.stderr] if done.returncode else [])

    assert faults() == []
    # A mistake would be seen.
    file.write_text(file.read_text().replace("KillMode=mixed", "KillMode=mild\nRestart-Sec=1"))
    assert len(faults()) == 2


def test_words_come_out_as_they_went_in(tmp_path: Path) -> None:
    words = value_of(systemd_unit(make(tmp_path, *ODD)), "ExecStart")
    assert words.startswith('/bin/echo "a b" "say \\"so\\"" "100%%" "$$HOME" "back\\\\slash"')
    assert words.endswith('"it\'s" "semi;colon" "ü" "%%h" ""')


def test_a_users_service_needs_no_rights_of_the_system(tmp_path: Path) -> None:
    unit = systemd_unit(make(tmp_path))
    assert value_of(unit, "WantedBy") == "default.target"
    for name in ("User=", "network-online", "Protect", "ReadWritePaths", "CapabilityBoundingSet"):
        assert name not in unit


def test_a_service_of_the_system_writes_in_its_own_places(tmp_path: Path) -> None:
    unit = systemd_unit(make(tmp_path, account="ada"))
    assert value_of(unit, "User") == "ada"
    assert value_of(unit, "After") == value_of(unit, "Wants") == "network-online.target"
    assert value_of(unit, "ProtectSystem") == "strict"
    assert value_of(unit, "ReadWritePaths") == f'"{tmp_path}/home of 100%%" {tmp_path}/store'


@pytest.mark.parametrize("account", [None, "ada"])
def test_nothing_stands_against_the_engines_own_confinement(
    tmp_path: Path, account: str | None
) -> None:
    unit = systemd_unit(make(tmp_path, account=account))
    for name in ("RestrictNamespaces", "PrivateUsers", "PrivateDevices", "SystemCallFilter"):
        assert name not in unit
    assert value_of(unit, "NoNewPrivileges") == "yes"


def test_final_exits_are_not_tried_again(tmp_path: Path) -> None:
    unit = systemd_unit(make(tmp_path))
    assert value_of(unit, "Restart") == "always"
    assert value_of(unit, "RestartPreventExitStatus") == "2 9"
    assert set(FINAL_EXITS) <= set(EXIT_CODES)
    assert value_of(unit, "ConditionPathExists").endswith("home of 100%%/gateway.json")


@pytest.mark.parametrize("account", [None, "ada"])
def test_launchd_gets_keys_that_it_knows(tmp_path: Path, account: str | None) -> None:
    service = make(tmp_path, *ODD, "<&>", account=account, NAME="value")
    entries = plistlib.loads(launchd_plist(service).encode())
    assert all(type(value) is KEYS.get(name) for name, value in entries.items()), entries
    assert entries["ProgramArguments"] == ["/bin/echo", *ODD, "<&>"]
    assert entries["EnvironmentVariables"] == {"NAME": "value"}
    assert entries.get("UserName") == account
    assert "EnvironmentVariables" not in plistlib.loads(launchd_plist(make(tmp_path)).encode())


@pytest.mark.parametrize("text", ["a\nb", "a\rExecStart=b", "a\0b", "a\x7f", os.fsdecode(b"\xff")])
def test_what_no_line_can_hold_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadRequest, match="cannot stand in a service's description"):
        make(tmp_path, text)
    with pytest.raises(BadRequest):
        make(tmp_path, NAME=text)
    with pytest.raises(BadRequest):
        Service(("/bin/echo",), tmp_path / text, tmp_path)
