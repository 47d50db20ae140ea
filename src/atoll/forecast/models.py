"""Models by name: the shapes that this package carries, and those that users describe.

Users add theirs as TOML of the same form as `data/models.toml`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.names import ByName
from atoll.forecast.precisions import bits_of
from atoll.forecast.shapes import ModelShape, check_shape


class FileSize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large a model's file of a precision is, bytes; `packager` is who made it."""

    model: str
    precision: str
    bytes: float
    source: str
    packager: str = ""
    note: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[ModelShape, ...] = ()
    files: tuple[FileSize, ...] = ()


class Models:
    """Shapes by name, and sizes of files.

    Args:
        shapes: Later ones take the place of earlier ones of the same name.
        files: What is known of their files; of several of one kind the first counts.
    """

    def __init__(self, shapes: tuple[ModelShape, ...], files: tuple[FileSize, ...] = ()) -> None:
        self.shapes = ByName("model", shapes)
        self._files = files

    def bits(self, shape: ModelShape, precision: str, *, packager: str = "") -> float:
        """Bits of a weight in the file that people use, or those of the format where none is
        known.

        Args:
            shape: The model.
            precision: The format.
            packager: Whose file is meant, if there are several.

        Raises:
            BadRequest: No format goes by that name.
        """
        wanted = precision.lower()
        files = [f for f in self._files if f.model == shape.name and f.precision.lower() == wanted]
        files.sort(key=lambda file: file.packager != packager)
        return 8 * files[0].bytes / shape.total_params if files else bits_of(precision)


def parse_models(text: str, *, source: str) -> Models:
    """The models that a TOML file describes.

    Raises:
        BadRequest: It is no TOML of this form, or a shape that no model has.
    """
    try:
        found = msgspec.toml.decode(text, type=_File)
    except msgspec.MsgspecError as error:
        raise BadRequest(
            f"{source} cannot be read: {error}", hint="docs/howto/compare-fleets.md shows its form"
        ) from error
    for shape in found.models:
        check_shape(shape)
    return Models(found.models, found.files)


@cache
def shipped_models() -> Models:
    """The models that this package carries."""
    folder = resources.files("atoll.forecast").joinpath("data")
    text = folder.joinpath("models.toml").read_text("utf-8")
    return parse_models(text, source="models.toml")
