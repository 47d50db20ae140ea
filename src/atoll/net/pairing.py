"""The code that two strangers compare: short, and of no use to search for.

A node and a gateway that found each other on a network know each other's keys,
but not whose they are. Both derive a code of six digits from both keys and a
nonce of each. The node first sends a hash of its nonce, the gateway answers with
its own nonce, and only then the node tells: whoever stands between the two has
to settle on what decides the codes before it can know either, so that they
agree by chance alone, one time in a million. docs/adr/0011-lan.md.

Pure: no socket, clock or chance.

Source: RFC 6189 (ZRTP), sections 4.4.1.1 (hash commitment) and 7 (short
authentication string); Bluetooth Core Specification, volume 2, part H, Secure
Simple Pairing, numeric comparison (its six digits).
"""

from __future__ import annotations

import hashlib
import hmac

from atoll.domain.address import ADDRESSES_MAX, Address, check, check_relay
from atoll.domain.control import Approved, ControlMessage, Knock, KnockAnswer, Reveal
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import NodeId

HASH_BYTES = 32
NONCE_BYTES = 32
CODE_DIGITS = 6
WAIT_S = 300.0
"""How long a code is good, on both sides: the longer, the more often one could be tried."""


def commitment_to(nonce: bytes, *, gateway: NodeId, node: NodeId) -> bytes:
    """What a node says of its nonce before it knows the gateway's; 32 bytes."""
    return hashlib.sha256(b"atoll-knock-1\0" + _keys(gateway, node) + nonce).digest()


def code_of(node_nonce: bytes, gateway_nonce: bytes, *, gateway: NodeId, node: NodeId) -> str:
    """The code of six digits, in two groups: "123 456"."""
    if len(node_nonce) != NONCE_BYTES or len(gateway_nonce) != NONCE_BYTES:
        raise ValueError("a nonce has another length")
    digest = hashlib.sha256(
        b"atoll-code-1\0" + _keys(gateway, node) + node_nonce + gateway_nonce
    ).digest()
    # Of 128 bits, so that no code is likelier than another.
    digits = f"{int.from_bytes(digest[:16]) % 10**CODE_DIGITS:0{CODE_DIGITS}}"
    return f"{digits[:3]} {digits[3:]}"


def is_same_code(one: str, other: str) -> bool:
    """Whether two codes are one, however their digits are grouped."""
    pair = ["".join(c for c in code if c not in " -\t\r\n") for code in (one, other)]
    return bool(pair[0]) and hmac.compare_digest(*(code.encode() for code in pair))


def problem_of_pairing(message: ControlMessage) -> str:
    """What is wrong with a message of a node without a ticket, or to it; empty if nothing is."""
    match message:
        case Knock():
            if len(message.name) > 255:
                return "a text is longer than 255 characters"
            return "" if len(message.commitment) == HASH_BYTES else "its commitment is no hash"
        case KnockAnswer() | Reveal():
            return "" if len(message.nonce) == NONCE_BYTES else "its nonce has another length"
        case Approved():
            return _problem_of_terms(message)
        case _:
            return ""


def _problem_of_terms(terms: Approved) -> str:
    if not 0 <= terms.udp_port <= 65535:
        return f"port {terms.udp_port} is out of range"
    if len(terms.addresses) > ADDRESSES_MAX:
        return f"{len(terms.addresses)} addresses, allowed are {ADDRESSES_MAX}"
    try:
        check_relay(terms.relay)
        for place in terms.addresses:
            check(Address(place))
    except ProtocolFault as fault:
        return fault.problem
    return ""


def _keys(gateway: NodeId, node: NodeId) -> bytes:
    return bytes.fromhex(gateway) + bytes.fromhex(node)
