from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import NodeId
from atoll.net.identity import Identity, next_incarnation, parse_node_id, verify
from atoll.net.private_file import PrivateFileFault, write_private


def test_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "home" / "identity.pem"
    made = Identity.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = Identity.load_or_create(path)
    assert again.node_id == made.node_id == Identity.load(path).node_id
    assert parse_node_id(made.node_id) == made.node_id
    with pytest.raises(PrivateFileFault, match="already exists"):
        Identity.create(path)


def test_its_text_does_not_show_the_key() -> None:
    identity = Identity.generate()
    assert repr(identity) == f"Identity(node_id='{identity.node_id}')"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_readable_by_others_is_refused_not_replaced(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity.pem"
    Identity.create(path)
    before = path.read_bytes()
    path.chmod(mode)
    with pytest.raises(PrivateFileFault, match="chmod 600"):
        Identity.load_or_create(path)
    assert path.read_bytes() == before


def test_malformed_missing_and_foreign_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    with pytest.raises(PrivateFileFault, match="no identity"):
        Identity.load(path)
    whole = Identity.create(path).private_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    other = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for content, problem in [
        (b"", "no private key"),
        (whole[:60], "no private key"),
        (b"\x00" * 100, "no private key"),
        (other, "another kind"),
        (b"x" * 5000, "longer than"),
    ]:
        write_private(path, content, replace=True)
        with pytest.raises(PrivateFileFault, match=problem):
            Identity.load(path)


def test_signatures() -> None:
    ours, theirs = Identity.generate(), Identity.generate()
    signature = ours.sign(b"message")
    assert verify(ours.node_id, signature, b"message")
    assert not verify(ours.node_id, signature, b"messagf")
    assert not verify(theirs.node_id, signature, b"message")
    assert not verify(ours.node_id, signature[:-1], b"message")
    assert not verify(ours.node_id, b"", b"message")
    assert not verify(NodeId("no key"), signature, b"message")
    assert not verify(NodeId("ff" * 32), signature, b"message")


@pytest.mark.parametrize(
    "text", ["", "ab", "g" * 64, "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"]
)
def test_malformed_names(text: str) -> None:
    with pytest.raises(ProtocolFault):
        parse_node_id(text)


def test_incarnation_rises_with_each_start(tmp_path: Path) -> None:
    path = tmp_path / "home" / "incarnation"
    assert [next_incarnation(path) for _ in range(3)] == [1, 2, 3]
    assert path.read_bytes() == b"3\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_incarnation_of_starts_at_once_is_never_shared(tmp_path: Path) -> None:
    path = tmp_path / "incarnation"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        got = pool.map(next_incarnation, [path] * 20)
    assert sorted(got) == list(range(1, 21))


@pytest.mark.parametrize("content", [b"", b"-1\n", b"1 2", b"one", b"1" * 18, b"1" * 40, b"\xff"])
def test_damaged_counter_is_refused_not_restarted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "incarnation"
    write_private(path, content, replace=True)
    with pytest.raises(PrivateFileFault):
        next_incarnation(path)
    assert path.read_bytes() == content


def test_counter_at_its_end_or_open_to_others(tmp_path: Path) -> None:
    path = tmp_path / "incarnation"
    write_private(path, b"%d\n" % 2**53, replace=True)
    with pytest.raises(PrivateFileFault, match="at its end"):
        next_incarnation(path)
    write_private(path, b"5\n", replace=True)
    path.chmod(0o644)
    with pytest.raises(PrivateFileFault, match="open to other users"):
        next_incarnation(path)
