from __future__ import annotations

import json
from pathlib import Path

import pytest

from atoll.domain.errors import AtollError
from atoll.net.identity import Identity
from atoll.net.join_file import OPEN_SECRETS_MAX, JoinFile, JoinSecrets
from atoll.net.private_file import PrivateFileFault


def a_join_file(secrets: JoinSecrets | None = None) -> JoinFile:
    secret = (secrets or JoinSecrets()).create()
    return JoinFile("127.0.0.1", 7000, Identity.generate().node_id, secret)


def test_secret_is_good_once() -> None:
    secrets = JoinSecrets()
    one, two = secrets.create(), secrets.create()
    assert one != two
    assert len(one) >= 43
    assert not secrets.redeem(one[:-1])
    assert not secrets.redeem("")
    assert not secrets.redeem("\ud800")
    assert secrets.redeem(one)
    assert not secrets.redeem(one)
    assert len(secrets) == 1
    assert secrets.redeem(two)


def test_only_hashes_are_kept_and_not_too_many() -> None:
    secrets = JoinSecrets()
    one = secrets.create()
    assert one not in repr(vars(secrets))
    for _ in range(OPEN_SECRETS_MAX - 1):
        secrets.create()
    with pytest.raises(AtollError, match="unused"):
        secrets.create()


def test_round_trip_by_file_and_by_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "join.json"
    written = a_join_file()
    written.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert JoinFile.load(path) == written
    assert JoinFile.parse(written.text()) == written
    assert written.secret not in repr(written)


def test_open_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "join.json"
    with pytest.raises(PrivateFileFault, match="no join file"):
        JoinFile.load(path)
    a_join_file().write(path)
    path.chmod(0o644)
    with pytest.raises(PrivateFileFault, match="open to other users"):
        JoinFile.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"port": 0},
        {"port": 65536},
        {"port": "7000"},
        {"host": ""},
        {"host": "h" * 254},
        {"gateway": "ab"},
        {"gateway": "A" * 64},
        {"secret": "short"},
        {"secret": "s" * 256},
        {"version": 2},
        {"more": 1},
    ],
)
def test_each_wrong_field_is_refused_without_quoting_the_secret(change: dict[str, object]) -> None:
    good = a_join_file()
    text = json.dumps(json.loads(good.text()) | change)
    with pytest.raises(PrivateFileFault) as caught:
        JoinFile.parse(text)
    assert good.secret not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "x" * 5000, "[" * 4000, "\x00"])
def test_what_is_no_join_file_is_refused(text: str) -> None:
    with pytest.raises(PrivateFileFault):
        JoinFile.parse(text)


def test_each_missing_field_is_refused() -> None:
    whole = json.loads(a_join_file().text())
    for name in ("host", "port", "gateway", "secret"):
        text = json.dumps({key: value for key, value in whole.items() if key != name})
        with pytest.raises(PrivateFileFault):
            JoinFile.parse(text)
