"""Models and devices as commands name them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from atoll.cli.catalogue import (
    DESCRIPTION_BYTES_MAX,
    check_catalogue,
    chosen_model,
    known_devices,
    put_device,
    read_description,
)
from atoll.domain.errors import BadRequest
from atoll.forecast.devices import Device, Timing, parse_devices

REEF = Device(
    *("reef", "cpu", 8 * 2.0**30, 6e9, {"fp16": 18e9}),
    source="atoll probe, today",
    timing=Timing(20e-6, 1e-3, 5.0),
)


def test_a_model_of_the_catalogue() -> None:
    shape, bits = chosen_model("llama 3.1 8b", "FP8")
    assert (shape.name, bits) == ("Llama-3.1-8B", 8.0)


def test_devices_of_files_take_the_place_of_others(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[devices]]\nname = "NVIDIA RTX 4090"\nkind = "gpu-consumer"\nmemory = "48 GiB"\n'
        'bandwidth = "1 TB/s"\nsource = "a modified card"\n'
    )
    assert known_devices([path]).find("NVIDIA RTX 4090").memory == 48 * 2**30
    assert known_devices([]).find("NVIDIA RTX 4090").memory == 24 * 2**30


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(BadRequest, match="cannot read"):
        read_description(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRequest, match="no text"):
        read_description(path)
    path.write_text("a" * 100)
    with pytest.raises(BadRequest, match="too large"):
        read_description(path, bytes_max=99)


def test_a_file_is_made_and_then_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    check_catalogue(path)
    put_device(path, REEF)
    check_catalogue(path)
    put_device(path, replace(REEF, name="cove"))
    put_device(path, replace(REEF, bandwidth=7e9))
    devices = parse_devices(read_description(path), source="x")
    assert [device.name for device in devices] == ["reef", "cove"]
    assert devices.find("reef").bandwidth == 7e9
    assert [file.name for file in tmp_path.iterdir()] == ["mine.toml"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(tmp_path / "mine.toml")
    put_device(tmp_path / "link.toml", REEF)
    assert (tmp_path / "link.toml").is_symlink()
    assert "reef" in (tmp_path / "mine.toml").read_text()


def test_what_a_device_cannot_be_put_into(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRequest, match="is no text"):
        check_catalogue(path)
    path.write_text("#" * (DESCRIPTION_BYTES_MAX + 1))
    with pytest.raises(BadRequest, match="too large"):
        put_device(path, REEF)
    with pytest.raises(BadRequest, match=r"cannot read .*: Is a directory"):
        check_catalogue(tmp_path)


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nowhere" / "mine.toml"
    with pytest.raises(BadRequest, match="cannot write"):
        check_catalogue(path)
    with pytest.raises(BadRequest, match=r"cannot write .*: No such file"):
        put_device(path, REEF)
    # Whoever runs the tests may write anything if that is root.
    (tmp_path / "mine.toml").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(BadRequest, match="cannot write") as caught:
        check_catalogue(tmp_path / "mine.toml")
    assert caught.value.hint == "choose another file"


def test_what_is_no_file_of_devices_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("no TOML")
    with pytest.raises(BadRequest, match="cannot be read"):
        check_catalogue(path)
    with pytest.raises(BadRequest, match="cannot be read"):
        put_device(path, REEF)
    assert path.read_text() == "no TOML"
