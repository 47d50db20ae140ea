"""Models and devices as commands name them, from the catalogue or from files, and files that a
measured device goes into.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from atoll.domain.errors import BadRequest
from atoll.forecast.device_file import check_not_by_hand, with_device
from atoll.forecast.devices import Device, parse_devices, shipped_devices
from atoll.forecast.fleet_file import Fleet, parse_fleet, parse_fleet_file
from atoll.forecast.gguf_shape import bits_of_gguf, shape_of_gguf
from atoll.forecast.hf_config import shape_of_config
from atoll.forecast.models import parse_models, shipped_models
from atoll.forecast.names import ByName
from atoll.forecast.precisions import bits_of
from atoll.forecast.shapes import ModelShape
from atoll.model.files import atomic_file
from atoll.model.parts import open_model

DESCRIPTION_BYTES_MAX = 1 << 20
OTHER_FILE = "choose another file"


def chosen_model(name: str, precision: str) -> tuple[ModelShape, float]:
    """A model's shape, and the bits that a weight takes.

    Args:
        name: Of the catalogue, or a file: `.gguf`, a Hugging Face `config.json`, or `.toml`.
        precision: How weights are packed; of a `.gguf` as they are.

    Raises:
        BadRequest: There is none of that name, or the file describes none.
    """
    path = Path(name)
    if path.suffix == ".gguf":
        file = open_model(path)
        return shape_of_gguf(file, name=path.stem), bits_of_gguf(file)
    if path.suffix not in (".json", ".toml"):
        models = shipped_models()
        shape = models.shapes.find(name)
        return shape, models.bits(shape, precision)
    text = read_description(path)
    if path.suffix == ".json":
        return shape_of_config(text, name=path.parent.name or path.stem), bits_of(precision)
    shapes = list(parse_models(text, source=str(path)).shapes)
    if len(shapes) != 1:
        raise BadRequest(f"{path} describes {len(shapes)} models", hint="describe one in a file")
    return shapes[0], bits_of(precision)


def chosen_fleet(text: str, devices: ByName[Device]) -> Fleet:
    """A fleet in a line, of a short name, or of a TOML file.

    Raises:
        BadRequest: It is none, or the file cannot be read.
    """
    path = Path(text)
    if path.suffix == ".toml":
        return parse_fleet_file(read_description(path), devices, source=str(path))
    return parse_fleet(text, devices)


def known_devices(files: Sequence[Path]) -> ByName[Device]:
    """The catalogue's devices, and those of files, which come first.

    Raises:
        BadRequest: A file cannot be read, or describes no devices.
    """
    more = [
        device
        for path in files
        for device in parse_devices(read_description(path), source=str(path))
    ]
    return ByName("device", [*shipped_devices(), *more])


def read_description(path: Path, *, bytes_max: int = DESCRIPTION_BYTES_MAX) -> str:
    """A file's text.

    Raises:
        BadRequest: It cannot be read, is too large, or is no text.
    """
    try:
        if path.stat().st_size > bytes_max:
            raise BadRequest(f"{path} is too large: {bytes_max} bytes at most")
        return path.read_text("utf-8")
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is no text") from error


def check_catalogue(path: Path, name: str = "") -> None:
    """Refuse a file that no device could be put into; one that is not there can be made.

    Args:
        path: The file.
        name: What the device is to be called; empty: that is not known yet.

    Raises:
        BadRequest: It is no file of devices, cannot be written, or somebody described a device of
            that name by hand.
    """
    check_not_by_hand(_text(path), name, source=str(path))
    place = path.expanduser().absolute()
    if not os.access(place if place.exists() else place.parent, os.W_OK):
        raise BadRequest(f"cannot write {path}", hint=OTHER_FILE)


def put_device(path: Path, device: Device) -> None:
    """Write a measured machine into the file, in the place of an earlier measurement of it.

    Raises:
        BadRequest: It is no file of devices, cannot be written, or has another device of that name.
    """
    changed = with_device(_text(path), device, source=str(path))
    try:
        # A link stays one: what it leads to is replaced.
        with atomic_file(path.expanduser().resolve()) as file:
            file.write(changed.encode())
    except OSError as error:
        raise BadRequest(f"cannot write {path}: {error.strerror}", hint=OTHER_FILE) from error


def _text(path: Path) -> str:
    """What the file holds so far; nothing if it is not there."""
    return read_description(path) if path.expanduser().exists() else ""
