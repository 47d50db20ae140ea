"""A node as a service: what systemd and launchd are told about it.

Text only; who prints it has found out the program, the folders and the account.
The options stand in systemd.service(5), systemd.exec(5), systemd.kill(5) and in
launchd.plist(5).
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atoll.domain.errors import BadRequest, NotLetIn
from atoll.node.membership import FILE

UNIT_FILE = "atoll-node.service"
LABEL = "atoll.node"
LOG_FILE = "node.log"
RESTART_S = 10
STOP_S = 30
"""How long a node may take to say goodbye and end its stage."""
FINAL_EXITS = (BadRequest.exit_code, NotLetIn.exit_code)
"""Exit codes after which another try ends in the same way: an option that cannot be, a
node that was revoked or forgotten."""

_PLAIN = re.compile(r"[\w@+=:,./-]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Service:
    """One node of this machine.

    Args:
        command: Its command line; the program is an absolute path.
        home: Its home folder.
        store: Where models lie.
        account: The user it runs as where the whole machine starts it; None: it is
            a service of the user who installs it.
        environment: Variables that it needs.

    Raises:
        BadRequest: Something of it cannot stand in a line of text.
    """

    command: tuple[str, ...]
    home: Path
    store: Path
    account: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = (*self.command, str(self.home), str(self.store), self.account or "")
        for text in (*texts, *self.environment.values()):
            if _CONTROL.search(text) or not _is_utf8(text):
                raise BadRequest(
                    f"{text!r} holds characters that cannot stand in a service's description",
                    hint="choose a path or a name without them",
                )


def systemd_unit(service: Service) -> str:
    """The unit file of a service; with an account, for the system's manager."""
    of_system = service.account is not None
    unit = ["Description=Atoll node"]
    if of_system:
        # A user's manager knows no such target; there a node tries until it gets through.
        unit += ["Wants=network-online.target", "After=network-online.target"]
    unit.append(f"ConditionPathExists={_specifiers(str(service.home / FILE))}")
    program, *arguments = service.command
    run = [
        "Type=exec",
        *([f"User={_specifiers(service.account)}"] if service.account is not None else []),
        *(
            f"Environment={_quoted(_specifiers(f'{name}={value}'))}"
            for name, value in sorted(service.environment.items())
        ),
        # In the program's own path a dollar sign stands for itself.
        "ExecStart="
        + " ".join([_quoted(_specifiers(program)), *(_argument(word) for word in arguments)]),
        # Also after a goodbye: the gateway may only be starting anew.
        "Restart=always",
        f"RestartSec={RESTART_S}",
        f"RestartPreventExitStatus={' '.join(map(str, FINAL_EXITS))}",
        "KillSignal=SIGTERM",
        # The node ends its engine itself, once it has said goodbye.
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_S}",
    ]
    wanted_by = "multi-user.target" if of_system else "default.target"
    hardening = [*_HARDENING, *(_system_hardening(service) if of_system else ())]
    return "\n".join(
        (
            *("[Unit]", *unit, ""),
            *("[Service]", *run, *hardening, ""),
            *("[Install]", f"WantedBy={wanted_by}", ""),
        )
    )


_HARDENING = (
    "UMask=0077",
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
)
"""What a node never does. Not among it, as engine processes need them: RestrictNamespaces
(they leave the network for a namespace of their own), PrivateDevices, ProtectClock and
DeviceAllow (a GPU), MemoryDenyWriteExecute (callbacks from C), ProcSubset (memory figures)."""


def _system_hardening(service: Service) -> tuple[str, ...]:
    """What needs the rights of the system's manager."""
    places = dict.fromkeys((service.home, service.store))
    return (
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        f"ReadWritePaths={' '.join(_quoted(_specifiers(str(place))) for place in places)}",
        "PrivateTmp=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectControlGroups=yes",
    )


def launchd_plist(service: Service) -> str:
    """The property list of a service; with an account it is a daemon, else an agent."""
    entries: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": list(service.command),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": STOP_S,
        # The default slows a process down that others wait for at every token.
        "ProcessType": "Interactive",
        "Umask": 0o077,
        "StandardErrorPath": str(service.home / LOG_FILE),
    }
    if service.environment:
        entries["EnvironmentVariables"] = dict(service.environment)
    if service.account is not None:
        entries["UserName"] = service.account
    return plistlib.dumps(entries, sort_keys=False).decode()


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _argument(word: str) -> str:
    return _quoted(_specifiers(word).replace("$", "$$"))


def _quoted(word: str) -> str:
    """As one word of a setting, by systemd.syntax(7)."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
