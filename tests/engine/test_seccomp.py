from __future__ import annotations

import errno
import platform
import re
import struct
from pathlib import Path

import pytest

from atoll.engine import seccomp
from atoll.engine.seccomp import ALLOW, FAIL, KILL, MACHINES, build_filter

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
PID = 4242
REFUSED, UNKNOWN = FAIL | errno.EPERM, FAIL | errno.ENOSYS


def judge(steps: bytes, audit: int, number: int, *arguments: int) -> int:
    """Run the filter as the kernel does; returns its verdict."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, audit, 0, *padded)
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", steps, at * 8)
        at += 1
        match code:
            case seccomp.LOAD:
                (loaded,) = struct.unpack_from("<I", data, value)
            case seccomp.RETURN:
                return int(value)
            case seccomp.JEQ:
                at += if_true if loaded == value else if_false
            case seccomp.JGE:
                at += if_true if loaded >= value else if_false
            case seccomp.JSET:
                at += if_true if loaded & value else if_false


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_numbers_are_those_of_the_system_headers(name: str) -> None:
    if not HEADERS[name].exists():
        pytest.skip("the system's headers are not installed")
    text = HEADERS[name].read_text()
    known = {a: int(b) for a, b in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    for call, number in MACHINES[name].calls.items():
        if call not in known and number > max(known.values()):
            continue  # newer than these headers
        assert known.get(call) == number, call


def test_numbers_of_calls_newer_than_many_headers() -> None:
    """include/uapi/asm-generic/unistd.h of Linux 6.17; all processors share them since 403."""
    newer = {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}
    for machine in MACHINES.values():
        assert newer.items() <= machine.calls.items()


@pytest.mark.parametrize("name", sorted(MACHINES))
@pytest.mark.parametrize("devices", [False, True])
def test_verdicts(name: str, devices: bool) -> None:
    machine = MACHINES[name]
    steps = build_filter(machine, PID, devices=devices)
    calls = machine.calls

    def verdict(call: str, *arguments: int) -> int:
        return judge(steps, machine.audit, calls[call], *arguments)

    for call in ("socket", "execve", "ptrace", "unlinkat", "io_uring_setup", "setxattr"):
        assert verdict(call) == REFUSED
    assert verdict("clone", 0x3D0F00) == ALLOW, "a thread"
    assert verdict("clone", 17) == REFUSED, "a process"
    assert verdict("clone3") == UNKNOWN
    assert verdict("kill", PID, 6) == ALLOW
    assert verdict("kill", PID + 1, 0) == REFUSED
    for call in ("tkill", "rt_sigqueueinfo", "fchmodat2", "utimensat", "fremovexattr", "shmget"):
        assert verdict(call, PID) == REFUSED
    for call in ("tgkill", "rt_tgsigqueueinfo"):
        assert verdict(call, PID, PID + 7, 6) == ALLOW, "abort(), or a thread of its own"
        assert verdict(call, PID + 1, PID + 1, 9) == REFUSED
        assert verdict(call, 2**32 + PID + 1, PID, 9) == REFUSED
    for call in ("prlimit64", "sched_setaffinity", "sched_setattr"):
        assert [verdict(call, pid) for pid in (0, PID, PID + 1)] == [ALLOW, ALLOW, REFUSED]
    assert [verdict("fcntl", 3, command) for command in (1, 2, 3, 4)] == [ALLOW] * 4
    assert [verdict("fcntl", 3, command) for command in (8, 10, 15)] == [REFUSED] * 3
    assert [verdict("ioctl", 3, command) for command in (0x5401, 0x8901)] == [ALLOW, REFUSED]
    assert verdict("openat", 0, 0, 0) == ALLOW
    assert verdict("openat", 0, 0, 1) == (ALLOW if devices else REFUSED)
    assert verdict("openat", 0, 0, 0o102) == REFUSED, "make a file"
    assert verdict("openat", 0, 0, 0o1001) == REFUSED, "empty a file"
    assert verdict("openat2") == UNKNOWN
    assert verdict("ftruncate") == verdict("fallocate") == REFUSED
    assert judge(steps, machine.audit, 0) == ALLOW, "read, or io_setup"
    assert judge(steps, machine.audit, 470) == UNKNOWN, "a call of the future"
    assert judge(steps, machine.audit, 0x40000000 | 41) == REFUSED, "the x32 entry"
    assert judge(steps, 0x40000003, 1) == KILL, "a 32-bit entry"


def test_another_system_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        seccomp.install_filter()
