"""API keys: shown once, stored as hashes, changed without a restart."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from atoll.api.keys import LOCAL_KEY_ID, KeyStore, NoSuchKey
from atoll.net.records import RecordFault


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.json"


def test_a_reserved_id_is_nobody_elses(path: Path) -> None:
    store = KeyStore(path)
    first = store.create("here", key_id=LOCAL_KEY_ID)
    assert first.key.id == LOCAL_KEY_ID
    store.revoke("here")
    again = store.create("here", key_id=LOCAL_KEY_ID)
    assert again.key.id == LOCAL_KEY_ID
    assert store.verify(first.secret) is None
    assert store.verify(again.secret) == again.key
    assert store.create("other").key.id != LOCAL_KEY_ID


def test_a_new_key_is_verified(path: Path) -> None:
    store = KeyStore(path)
    made = store.create("laptop")
    assert made.secret.startswith(f"atoll-{made.key.id}-")
    assert store.verify(made.secret) == made.key
    assert store.list() == (made.key,)


@pytest.mark.parametrize("wrong", ["", "atoll-", "x" * 10_000, "é", "atoll-00000000-abc", "\x00"])
def test_a_wrong_key_is_not(path: Path, wrong: str) -> None:
    store = KeyStore(path)
    assert store.verify(wrong) is None
    made = store.create("laptop")
    assert store.verify(wrong) is None
    assert store.verify(made.secret[:-1]) is None
    assert store.verify(made.secret + "A") is None
    assert store.verify(made.key.id) is None


def test_the_file_is_private_and_holds_no_secret(path: Path) -> None:
    made = KeyStore(path).create("laptop")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = made.secret.removeprefix(f"atoll-{made.key.id}-")
    assert secret.encode() not in path.read_bytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_revoked_by_id_or_name(path: Path) -> None:
    store = KeyStore(path)
    first, second, third = (store.create(name) for name in ("a", "b", "c"))
    assert store.revoke("b") == second.key
    assert store.revoke(first.key.id) == first.key
    assert store.list() == (third.key,)
    assert store.verify(second.secret) is None
    with pytest.raises(NoSuchKey):
        store.revoke("b")


def test_another_process_s_change_is_seen(path: Path) -> None:
    serving, command = KeyStore(path), KeyStore(path)
    made = command.create("laptop")
    assert serving.verify(made.secret) == made.key
    command.revoke("laptop")
    assert serving.verify(made.secret) is None
    path.unlink()
    assert serving.list() == ()


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "two\nlines", "laptop"])
def test_names_that_cannot_be(path: Path, name: str) -> None:
    store = KeyStore(path)
    store.create("laptop")
    with pytest.raises(NoSuchKey):
        store.create(name)
    assert len(store.list()) == 1


def test_writers_at_once_lose_nothing(path: Path) -> None:
    def create(name: str) -> None:
        KeyStore(path).create(name)

    threads = [threading.Thread(target=create, args=(f"key-{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(KeyStore(path).list()) == 12


def test_a_file_open_to_others_is_refused(path: Path) -> None:
    store = KeyStore(path)
    store.create("laptop")
    path.chmod(0o640)
    with pytest.raises(RecordFault, match="open to other users"):
        KeyStore(path).list()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version":1}', b'{"version":2,"keys":[]}', b"\xff"]
)
def test_a_damaged_file_lets_nobody_in(path: Path, content: bytes) -> None:
    store = KeyStore(path)
    made = store.create("laptop")
    path.write_bytes(content)
    with pytest.raises(RecordFault) as caught:
        store.verify(made.secret)
    assert caught.value.hint


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RecordFault):
        KeyStore(tmp_path / "file" / "keys.json").create("laptop")
