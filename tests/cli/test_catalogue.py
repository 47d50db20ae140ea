"""Models and devices as commands name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.cli.catalogue import chosen_model, known_devices, read_description
from atoll.domain.errors import BadRequest


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
