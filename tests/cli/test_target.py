"""Which API and key a command uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.cli.target import TargetFlags
from atoll.domain.errors import RingDown
from atoll.net.private_file import PrivateFileFault

URL = "http://192.0.2.1:1"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATOLL_API_KEY", raising=False)


def test_a_key_from_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TargetFlags(url=URL).endpoint().key == ""
    monkeypatch.setenv("ATOLL_API_KEY", " atoll-key\n")
    assert TargetFlags(url=URL).endpoint().key == "atoll-key"


def test_a_key_file_goes_before_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOLL_API_KEY", "other")
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text("atoll-key\n")
    assert TargetFlags(url=URL, key_file=file).endpoint().key == "atoll-key"


def test_a_key_file_must_be_there_and_private(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(PrivateFileFault, match="there is no key file"):
        TargetFlags(url=URL, key_file=file).endpoint()
    file.write_text("atoll-key")
    file.chmod(0o604)
    with pytest.raises(PrivateFileFault, match="open to other users"):
        TargetFlags(url=URL, key_file=file).endpoint()
    file.chmod(0o600)
    file.write_text("x" * 5000)
    with pytest.raises(PrivateFileFault, match="longer than"):
        TargetFlags(url=URL, key_file=file).endpoint()


def test_without_an_address_a_gateway_must_run_here(tmp_path: Path) -> None:
    with pytest.raises(RingDown, match="no gateway runs here"):
        TargetFlags(home=tmp_path).endpoint()
