"""A system call filter for engine children, on Linux for x86-64 and aarch64.

A child computes on memory it maps and talks over one inherited socket. It
needs threads, but no new process, no program, no socket, no change to the file
system, no shared memory, no signal to other processes nor a hold on them, and
none of what only an administrator does, so these calls fail with EPERM. The
filter is classic BPF over `struct seccomp_data` (linux/seccomp.h); call
numbers are those of asm/unistd_64.h and asm-generic/unistd.h. It does not see
which file is opened for reading (see `confine` for other processes' /proc).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

# linux/bpf_common.h: load a word, jump if equal, at least, or bits set; return.
LOAD, JEQ, JGE, JSET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# linux/seccomp.h
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
SET_MODE_FILTER, TSYNC = 1, 1
# Offsets in struct seccomp_data; an argument is 64 bits, low word first.
NUMBER_AT, MACHINE_AT, ARGUMENTS_AT, ARGUMENT_BYTES = 0, 4, 16, 8
X32_BIT = 0x40000000
NEWEST = 469
"""Calls with higher numbers came after Linux 6.17 and were not looked at. To the child
they do not exist yet, which is an answer that libraries are ready for."""
CLONE_THREAD = 0x00010000
OPEN_TO_MAKE = os.O_CREAT | os.O_TRUNC
OPEN_TO_CHANGE = os.O_WRONLY | os.O_RDWR | OPEN_TO_MAKE

# Call, its number on x86-64, its number on aarch64.
_CALLS = """
seccomp 317 277
clone 56 220
clone3 435 435
kill 62 129
tkill 200 130
tgkill 234 131
rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240
prlimit64 302 261
sched_setaffinity 203 122
sched_setscheduler 144 119
sched_setparam 142 118
sched_setattr 314 274
setpriority 141 140
ioprio_set 251 30
fcntl 72 25
ioctl 16 29
openat 257 56
openat2 437 437
open 2 -
creat 85 -
fork 57 -
vfork 58 -
execve 59 221
execveat 322 281
socket 41 198
connect 42 203
bind 49 200
listen 50 201
accept 43 202
accept4 288 242
ptrace 101 117
process_vm_readv 310 270
process_vm_writev 311 271
process_madvise 440 440
process_mrelease 448 448
move_pages 279 239
migrate_pages 256 238
kcmp 312 272
get_robust_list 274 100
shmget 29 194
shmat 30 196
shmctl 31 195
semget 64 190
semop 65 193
semctl 66 191
semtimedop 220 192
msgget 68 186
msgsnd 69 189
msgrcv 70 188
msgctl 71 187
mq_open 240 180
mq_unlink 241 181
pidfd_open 434 434
pidfd_getfd 438 438
pidfd_send_signal 424 424
unshare 272 97
setns 308 268
mount 165 40
umount2 166 39
pivot_root 155 41
chroot 161 51
open_tree 428 428
open_tree_attr 467 467
move_mount 429 429
fsopen 430 430
fsconfig 431 431
fsmount 432 432
fspick 433 433
mount_setattr 442 442
swapon 167 224
swapoff 168 225
quotactl 179 60
quotactl_fd 443 443
acct 163 89
settimeofday 164 170
clock_settime 227 112
adjtimex 159 171
clock_adjtime 305 266
sethostname 170 161
setdomainname 171 162
iopl 172 -
ioperm 173 -
fanotify_init 300 262
syslog 103 116
bpf 321 280
perf_event_open 298 241
userfaultfd 323 282
io_uring_setup 425 425
keyctl 250 219
add_key 248 217
request_key 249 218
open_by_handle_at 304 265
init_module 175 105
finit_module 313 273
delete_module 176 106
kexec_load 246 104
kexec_file_load 320 294
reboot 169 142
unlinkat 263 35
renameat 264 38
renameat2 316 276
mkdirat 258 34
mknodat 259 33
linkat 265 37
symlinkat 266 36
truncate 76 45
ftruncate 77 46
fallocate 285 47
fchmod 91 52
fchmodat 268 53
fchmodat2 452 452
fchown 93 55
fchownat 260 54
setxattr 188 5
lsetxattr 189 6
fsetxattr 190 7
setxattrat 463 463
removexattr 197 14
lremovexattr 198 15
fremovexattr 199 16
removexattrat 466 466
file_setattr 469 469
utimensat 280 88
utime 132 -
utimes 235 -
futimesat 261 -
unlink 87 -
rename 82 -
mkdir 83 -
rmdir 84 -
link 86 -
symlink 88 -
chmod 90 -
chown 92 -
lchown 94 -
mknod 133 -
"""
_ONLY_ITSELF = ("kill", "tgkill", "rt_tgsigqueueinfo")
"""Calls whose first argument must be the child's own process id: abort() and the
C library's signals to single threads are such."""
_ONLY_ITSELF_OR_0 = (
    "prlimit64",
    "sched_setaffinity",
    "sched_setscheduler",
    "sched_setparam",
    "sched_setattr",
)
"""The same, of calls in which 0 stands for the caller."""
# asm-generic/fcntl.h and asm-generic/sockios.h: what has signals sent to others when a
# descriptor becomes ready, and which signal.
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
FIOSETOWN, SIOCSPGRP = 0x8901, 0x8902
_COMMANDS_REFUSED = {
    "fcntl": (F_SETOWN, F_SETSIG, F_SETOWN_EX),
    "ioctl": (FIOSETOWN, SIOCSPGRP),
}
_JUDGED_BY_ARGUMENT = frozenset(
    [
        *("seccomp", "clone", "clone3", "openat", "openat2", "open"),
        *_ONLY_ITSELF,
        *_ONLY_ITSELF_OR_0,
        *_COMMANDS_REFUSED,
    ]
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs between processors: the audit number, and call numbers by name."""

    audit: int
    calls: dict[str, int]


def _calls(column: int) -> dict[str, int]:
    rows = (line.split() for line in _CALLS.strip().splitlines())
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


MACHINES = {
    "x86_64": Machine(0xC000003E, _calls(1)),
    "aarch64": Machine(0xC00000B7, _calls(2)),
}


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter: code, how far to jump, value."""
    return struct.pack("<HBBI", code, if_true, if_false, value)


_REFUSE = _step(RETURN, FAIL | errno.EPERM)
_UNKNOWN = _step(RETURN, FAIL | errno.ENOSYS)
_ALLOW = _step(RETURN, ALLOW)


def _if_argument(number: int, index: int, test: int, *values: int, yes: bytes, no: bytes) -> bytes:
    """For call `number`: `yes` where argument `index` passes `test` with a value, else `no`.

    The low word decides. All arguments that are looked at are ints or flags below
    2^32, of which the kernel takes no more either.
    """
    n = len(values)
    tests = (_step(test, value, n - i, 0) for i, value in enumerate(values))
    load = _step(LOAD, ARGUMENTS_AT + index * ARGUMENT_BYTES)
    return b"".join((_step(JEQ, number, 0, n + 3), load, *tests, no, yes))


def build_filter(machine: Machine, pid: int, *, devices: bool = False) -> bytes:
    """The filter's steps, 8 bytes each.

    Args:
        machine: The processor.
        pid: The child's own process id, the only one it may signal.
        devices: Whether files that are there may be opened for writing, as a GPU's
            driver does.
    """
    calls = machine.calls
    parts = [
        _step(LOAD, MACHINE_AT),
        _step(JEQ, machine.audit, 1, 0),
        _step(RETURN, KILL),
        _step(LOAD, NUMBER_AT),
        _step(JGE, X32_BIT, 0, 1),
        _REFUSE,
        _step(JGE, NEWEST + 1, 0, 1),
        _UNKNOWN,
        # What clone3 is asked for lies in memory, out of a filter's sight. The C
        # library falls back to clone when it hears that there is no clone3.
        _step(JEQ, calls["clone3"], 0, 1),
        _UNKNOWN,
        _if_argument(calls["clone"], 0, JSET, CLONE_THREAD, yes=_ALLOW, no=_REFUSE),
    ]
    for name in _ONLY_ITSELF:
        parts.append(_if_argument(calls[name], 0, JEQ, pid, yes=_ALLOW, no=_REFUSE))
    for name in _ONLY_ITSELF_OR_0:
        parts.append(_if_argument(calls[name], 0, JEQ, 0, pid, yes=_ALLOW, no=_REFUSE))
    for name, commands in _COMMANDS_REFUSED.items():
        parts.append(_if_argument(calls[name], 1, JEQ, *commands, yes=_REFUSE, no=_ALLOW))
    flags = OPEN_TO_MAKE if devices else OPEN_TO_CHANGE
    parts += [_step(JEQ, calls["openat2"], 0, 1), _UNKNOWN]
    for name, index in (("openat", 2), ("open", 1)):
        if name in calls:
            parts.append(_if_argument(calls[name], index, JSET, flags, yes=_REFUSE, no=_ALLOW))
    for name, number in calls.items():
        if name not in _JUDGED_BY_ARGUMENT:
            parts += [_step(JEQ, number, 0, 1), _REFUSE]
    return b"".join([*parts, _ALLOW])


def install_filter(*, devices: bool = False) -> None:
    """Put the filter on every thread of this process; it cannot be taken off.

    PR_SET_NO_NEW_PRIVS must be set before.

    Raises:
        OSError: The system has no such filter, or refuses it.
    """
    machine = MACHINES.get(platform.machine())
    if not sys.platform.startswith("linux") or machine is None:
        raise OSError(errno.ENOSYS, f"no filter for {sys.platform} on {platform.machine()}")
    steps = build_filter(machine, os.getpid(), devices=devices)
    program = _Program(len(steps) // 8, steps)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(
        ctypes.c_long(machine.calls["seccomp"]),
        ctypes.c_ulong(SET_MODE_FILTER),
        ctypes.c_ulong(TSYNC),
        ctypes.byref(program),
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if result > 0:
        raise OSError(errno.EBUSY, f"thread {result} could not be filtered")
