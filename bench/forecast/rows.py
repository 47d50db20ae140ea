"""Published measurements: rows of a CSV file, and how they are divided.

Columns: system, device, n_devices, model, precision, batch, in_len, out_len, metric, value,
unit, source. With which rows a row is scored, and from which the constants for it are fitted,
follows from a hash of the row, so that nobody chooses.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

from atoll.domain.errors import BadRequest

COLUMNS = (
    *("system", "device", "n_devices", "model", "precision", "batch"),
    *("in_len", "out_len", "metric", "value", "unit", "source"),
)
SHIPPED = Path(__file__).parents[1] / "data" / "published_results.csv"
FOLDS = 5
"""Each fifth of the rows is scored with constants fitted from the other four."""
SPLITS = 3
"""So often the rows are divided anew, as errors depend on who happens to be with whom."""


class Row(msgspec.Struct, frozen=True):
    """One published result; all as it was written, but for the value."""

    system: str
    device: str
    n_devices: str
    model: str
    precision: str
    batch: str
    in_len: str
    out_len: str
    metric: str
    value: float
    unit: str
    source: str
    line: int

    @property
    def digest(self) -> str:
        """SHA-256 of all columns, hexadecimal."""
        parts = [str(getattr(self, name)) for name in COLUMNS]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    @property
    def n(self) -> int:
        """How many devices, 0 where that is not said."""
        return int(self.n_devices) if self.n_devices.isdecimal() else 0

    @property
    def prompt(self) -> float:
        """Tokens of a prompt, 0 where that is not one number."""
        return float(self.in_len) if self.in_len.isdecimal() else 0.0

    @property
    def answer(self) -> float:
        """Tokens of an answer, 0 where that is not one number."""
        return float(self.out_len) if self.out_len.isdecimal() else 0.0

    def __str__(self) -> str:
        what = f"{self.system}, {self.n_devices or '?'} x {self.device}, {self.model}"
        return f"line {self.line}: {what}, {self.metric} {self.value:g} {self.unit}"


def fold_of(text: str, split: int) -> int:
    """The fifth that a text belongs to in one of the splits, by its SHA-256."""
    return int(hashlib.sha256(f"{split} {text}".encode()).hexdigest()[:8], 16) % FOLDS


def read_rows(text: str, *, source: str) -> Iterator[Row]:
    """The rows of a CSV file.

    Args:
        text: The file.
        source: Its name, for messages.

    Raises:
        BadRequest: Columns are missing, or a value is no positive number.
    """
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise BadRequest(
            f"{source} has no column {missing[0]!r}", hint=f"columns are {', '.join(COLUMNS)}"
        )
    for found in reader:
        line = reader.line_num
        try:
            value = float(found["value"])
        except (TypeError, ValueError):
            value = math.nan
        if not 0 < value < math.inf:
            raise BadRequest(f"{source}, line {line}: {found['value']!r} is no measured value")
        words = {name: (found[name] or "").strip() for name in COLUMNS if name != "value"}
        yield Row(**words, value=value, line=line)


def shipped_rows() -> list[Row]:
    """The results that the constants are fitted from and held against."""
    return list(read_rows(SHIPPED.read_text("utf-8"), source=SHIPPED.name))
