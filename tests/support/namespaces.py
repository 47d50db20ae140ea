"""An internet of one machine: hosts in network namespaces, some behind routers.

Each host is a namespace with one interface on a common bridge; a home is a host
whose only way there is a router that translates addresses and lets nothing in
that was not asked for, as home routers do. All homes use the same private
network, and all hosts the same address in it, as happens. Linux, root, `ip`
and `nft` are needed; all that is made has this process's id in its name and is
removed again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

OUTSIDE = "11.22.33"
"""The common network, /24. Nothing of it leaves the machine, so that addresses
may be used that count as public."""
INSIDE = "192.168.1"
"""The network of every home, /24."""
_ROUTER, _HOST = 1, 2
_COMMAND_S = 10

_RULES = """
table ip nat {{
  chain out {{
    type nat hook postrouting priority srcnat;
    oifname "wan" masquerade {how}
  }}
  chain in {{
    type nat hook prerouting priority dstnat;
    {forward}
  }}
}}
table ip filter {{
  chain in {{
    type filter hook input priority filter; policy drop;
    iifname {{ "lo", "lan" }} accept
    ct state established,related accept
  }}
  chain through {{
    type filter hook forward priority filter; policy drop;
    iifname "lan" accept
    ct state established,related accept
    ct status dnat accept
  }}
}}
"""
"""Dropped, not refused: a packet that came too early must leave no trace in the
table of connections, or the hole that is punched gets another port."""


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one interface.

    `address` is its own, `outside` where others see it: that of its router, if
    it is behind one.
    """

    namespace: str
    address: str
    outside: str

    def command(self, *words: str) -> list[str]:
        """`words` as a command that runs there, as the process that is started itself."""
        return ["ip", "netns", "exec", self.namespace, *words]


@dataclass(slots=True)
class Internet:
    """What hosts are connected by; made by `open_internet`."""

    name: str
    made: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def host(self) -> Host:
        """A host that all others reach."""
        number = next(self._numbers)
        host = self._namespace(number)
        self._plug(host, "wan", f"{OUTSIDE}.{number}")
        return Host(host, f"{OUTSIDE}.{number}", f"{OUTSIDE}.{number}")

    def home(self, *, random_ports: bool = False, forward: int = 0) -> Host:
        """A host behind a router of its own.

        The router gives a port of the host the same port outside whomever it
        talks to, so that others can learn it; with `random_ports`, another one
        for each. It lets in nothing but to the port `forward`, if that is not 0.
        """
        number = next(self._numbers)
        router, host = self._namespace(number), self._namespace(next(self._numbers))
        self._plug(router, "wan", f"{OUTSIDE}.{number}")
        _ip(router, f"link add lan type veth peer name wan netns {host}")
        _ip(router, f"addr add {INSIDE}.{_ROUTER}/24 dev lan")
        _ip(router, "link set lan up")
        _ip(host, f"addr add {INSIDE}.{_HOST}/24 dev wan")
        _ip(host, "link set wan up")
        _ip(host, f"route add default via {INSIDE}.{_ROUTER}")
        there = ("ip", "netns", "exec", router)
        _run(*there, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        to_host = f"dnat to {INSIDE}.{_HOST}"
        rules = _RULES.format(
            how="fully-random" if random_ports else "",
            forward=f'iifname "wan" th dport {forward} {to_host}' if forward else "",
        )
        _run(*there, "nft", "-f", "-", given=rules)
        return Host(host, f"{INSIDE}.{_HOST}", f"{OUTSIDE}.{number}")

    def _namespace(self, number: int) -> str:
        name = f"{self.name}-{number}"
        _run("ip", "netns", "add", name)
        self.made.append(name)
        _ip(name, "link set lo up")
        return name

    def _plug(self, namespace: str, interface: str, address: str) -> None:
        """Connect a namespace to the bridge."""
        port = "p" + address.rpartition(".")[2]
        _ip(self.name, f"link add {port} type veth peer name {interface} netns {namespace}")
        _ip(self.name, f"link set {port} master middle up")
        _ip(namespace, f"addr add {address}/24 dev {interface}")
        _ip(namespace, f"link set {interface} up")
        _ip(namespace, f"route add default via {OUTSIDE}.254")


def why_no_internet() -> str:
    """Why `open_internet` cannot be used here; empty if it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces with routers need root"
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: apt-get install {package})"
    try:
        with open_internet() as internet:
            internet.home()
    except NotPossible as problem:
        return str(problem)
    return ""


class NotPossible(Exception):
    """A namespace, interface or rule cannot be made here."""


@contextlib.contextmanager
def open_internet() -> Iterator[Internet]:
    """An internet without hosts, which is removed with all of them at the end.

    Raises:
        NotPossible: The system does not let us.
    """
    _sweep()
    internet = Internet(f"atoll-{os.getpid()}-{next(_COUNT)}")
    try:
        _run("ip", "netns", "add", internet.name)
        internet.made.append(internet.name)
        _ip(internet.name, "link add middle type bridge")
        _ip(internet.name, f"addr add {OUTSIDE}.254/24 dev middle")
        _ip(internet.name, "link set middle up")
        yield internet
    finally:
        # Interfaces, rules and routes go with their namespace.
        for name in reversed(internet.made):
            with contextlib.suppress(NotPossible):
                _run("ip", "netns", "del", name)


_COUNT = itertools.count()


def _sweep() -> None:
    """Remove what processes left behind that were killed."""
    names = Path("/run/netns").glob("atoll-*-*") if Path("/run/netns").is_dir() else ()
    for name in sorted(path.name for path in names):
        pid = name.split("-")[1]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with contextlib.suppress(NotPossible):
                _run("ip", "netns", "del", name)


def _ip(namespace: str, words: str) -> None:
    _run("ip", "-n", namespace, *words.split())


def _run(*command: str, given: str | None = None) -> None:
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotPossible(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise NotPossible(f"{' '.join(command)}: {done.stderr.strip()[:300]}")
