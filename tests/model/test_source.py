"""Files as sources of bytes."""

from __future__ import annotations

import io

from atoll.model.source import ByteSource, FileSource


def test_a_file_is_read_at_any_offset() -> None:
    file = io.BytesIO(bytes(range(100)))
    file.seek(50)
    source: ByteSource = FileSource(file)
    assert source.size_bytes == 100
    assert source.read(10, 3) == bytes([10, 11, 12])
    assert source.read(13, 2) == bytes([13, 14])
    assert source.read(0, 1) == bytes([0])
    assert source.read(98, 10) == bytes([98, 99])
    assert source.read(200, 10) == b""
    assert source.read(97, 1) == bytes([97])
