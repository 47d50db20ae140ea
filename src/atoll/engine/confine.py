"""What an engine child gives up before it touches any data.

A child reads model files that strangers made and computes on what strangers
sent, so it runs without network, new processes, or a way to change files, and
within bounded memory. Each measure is tried; which hold, and why one does not,
is reported and shown to the operator.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atoll.engine.seccomp import install_filter

MEMORY_VARIABLE = "ATOLL_CHILD_MEMORY_BYTES"
PARENT_VARIABLE = "ATOLL_CHILD_PARENT"
NETWORK_VARIABLE = "ATOLL_CHILD_NETWORK"
DEVICES_VARIABLE = "ATOLL_CHILD_DEVICES"

OPEN_FILES_MAX = 256
MISSING = "no "
"""A measure that does not hold is reported as "no NAME: reason"."""

# linux/prctl.h and linux/sched.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
# linux/capability.h; capabilities 0 to 31 come in a first, 32 to 63 in a second set of
# three words: effective, permitted, inheritable.
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_READ_SEARCH = 1 << 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What the parent asks of its child.

    Args:
        memory_bytes: Bound on the address space (maps, code and stacks of
            threads count); None for none.
        parent: Process id of the parent, with which the child ends.
        network: Whether the child keeps the network.
        devices: Whether it may open files for writing, as a GPU's driver does.
    """

    memory_bytes: int | None
    parent: int
    network: bool = False
    devices: bool = False

    def to_environment(self) -> dict[str, str]:
        """As environment variables for the child."""
        return {
            MEMORY_VARIABLE: "" if self.memory_bytes is None else str(self.memory_bytes),
            PARENT_VARIABLE: str(self.parent),
            NETWORK_VARIABLE: str(int(self.network)),
            DEVICES_VARIABLE: str(int(self.devices)),
        }

    @classmethod
    def take_from_environment(cls) -> Limits:
        """The limits the parent left in the environment; they are removed from it."""
        memory = os.environ.pop(MEMORY_VARIABLE, "")
        return cls(
            memory_bytes=int(memory) if memory else None,
            parent=int(os.environ.pop(PARENT_VARIABLE, "0")),
            network=os.environ.pop(NETWORK_VARIABLE, "0") == "1",
            devices=os.environ.pop(DEVICES_VARIABLE, "0") == "1",
        )


_report: tuple[str, ...] | None = None


def confine() -> tuple[str, ...]:
    """Give up what the environment says, once, and report which measures hold.

    Called again it only repeats the report. Call it before threads start: a
    namespace can only be left by a process with a single thread.

    Returns:
        Names of the measures that hold, and "no NAME: reason" for the others.
    """
    global _report  # noqa: PLW0603 - a process is confined once and for all
    if _report is None:
        _report = tuple(_apply(Limits.take_from_environment()))
    return _report


def missing(report: tuple[str, ...]) -> tuple[str, ...]:
    """The measures in a report that do not hold, with their reasons."""
    return tuple(entry for entry in report if entry.startswith(MISSING))


def _apply(limits: Limits) -> list[str]:
    measures: list[tuple[str, Callable[[], None]]] = []
    if not limits.network:
        measures.append(("netns", _leave_network))
    measures += [
        ("capabilities", _drop_capabilities),
        ("pdeathsig", lambda: _end_with_parent(limits.parent)),
        ("rlimit_core", lambda: _limit(resource.RLIMIT_CORE, 0)),
        ("rlimit_fsize", lambda: _limit(resource.RLIMIT_FSIZE, 0)),
        ("rlimit_nofile", lambda: _limit(resource.RLIMIT_NOFILE, OPEN_FILES_MAX)),
    ]
    if limits.memory_bytes is not None:
        memory_bytes = limits.memory_bytes
        measures.append(("rlimit_as", lambda: _limit(resource.RLIMIT_AS, memory_bytes)))
    measures.append(("no_new_privs", lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1)))
    if not limits.network:
        measures.append(("seccomp", lambda: install_filter(devices=limits.devices)))
    report = []
    for name, measure in measures:
        try:
            measure()
        except (OSError, ValueError) as error:
            report.append(f"{MISSING}{name}: {error}")
        else:
            report.append(name)
    return report


def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, f"not on {sys.platform}")
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def _leave_network() -> None:
    """Move into a network namespace that has no interface up.

    With a user namespace of its own the child also loses every privilege over
    the machine, even started by root. Where user namespaces are switched off,
    a privileged process can still take a network namespace alone.
    """
    libc = _libc()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        _check(libc.unshare(CLONE_NEWNET))
    # Leaving the user namespace hid this process from its own user; memory
    # figures of the child are part of what the parent reports.
    _prctl(PR_SET_DUMPABLE, 1)


def _drop_capabilities() -> None:
    """Give up what root may do, but for reading: a model may be another user's file.

    Without a user namespace of its own a child of root could otherwise read every
    process's memory.
    """
    libc = _libc()
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(6 * 4)
    _check(libc.capget(header, data))
    effective, permitted, _, *_ = struct.unpack("=6I", data.raw)
    kept = (effective & CAP_DAC_READ_SEARCH, permitted & CAP_DAC_READ_SEARCH, 0, 0, 0, 0)
    _check(libc.capset(header, struct.pack("=6I", *kept)))


def hide() -> bool:
    """Close this process's memory and environment to the user's other processes.

    For parents, which hold keys: a child without a user namespace of its own could
    read them under /proc. It also keeps them out of core dumps.

    Returns:
        Whether the system did it.
    """
    try:
        _prctl(PR_SET_DUMPABLE, 0)
    except OSError:
        return False
    return True


def _end_with_parent(parent: int) -> None:
    """Be killed when the parent dies; it may have died already."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


def run_child() -> None:
    """Entry of a child: confine it, then call `main([FD, ...])` of the named module.

    Modules with threads of their own are only imported once confined.
    """
    module, *arguments = sys.argv[1:]
    confine()
    importlib.import_module(module).main(arguments)
