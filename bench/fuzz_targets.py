"""Everything that reads bytes of strangers, one row each: what it reads, and what it may raise."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import Callable, Iterable
from functools import cache, partial
from random import Random
from typing import Any

import msgspec
import numpy as np

from atoll.api.schema import decode_chat, decode_completion
from atoll.domain.bulk import BulkMessage
from atoll.domain.control import ControlMessage, Plan, PlanNotice, plan_signed_part
from atoll.domain.errors import BadRequest, LinkFault, ProtocolFault
from atoll.domain.lent_memory import MemoryMessage
from atoll.domain.timing import TimingMessage
from atoll.domain.wire import ENCODINGS, F32, DataMessage, Window, row_bytes
from atoll.engine.codec import decode_into, is_finite
from atoll.net import websocket
from atoll.net.frames import DataDecoder, MessageDecoder, control_decoder, encode
from atoll.net.handshake import ClientHandshake, Message, ServerHandshake, VerdictReader
from atoll.net.identity import Identity
from atoll.net.link import DataLimits, UnusableFrame
from atoll.net.link_kinds import StreamBulkLink
from atoll.net.memory_link import StreamMemoryLink
from atoll.net.private_file import PrivateFileFault
from atoll.net.relay import bearer, proved_key
from atoll.net.ticket import PREFIX, Ticket
from atoll.net.timing_link import StreamTimingLink
from atoll.node.plan_notice import checked_plan
from bench.fuzz_files import close_folder, file_targets
from bench.fuzz_making import changed, deep, example, examples, havoc, packed
from bench.fuzz_target import Target

N_EMBD, ROWS_MAX = 8, 16


def _framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def _pieces(data: bytes) -> Iterable[bytes]:
    """The input as it could come: whole, or cut somewhere."""
    if not data or data[-1] & 1:
        return (data,)
    cut = len(data) // 3
    return (data[:cut], data[cut : cut + 5], data[cut + 5 :])


# Frames.


def _read_data(data: bytes) -> None:
    decoder = DataDecoder(DataLimits(N_EMBD, ROWS_MAX))
    for piece in _pieces(data):
        while True:
            try:
                for message, payload in decoder.feed(piece):
                    rows = message.rows if isinstance(message, Window) else 0
                    encoding = message.encoding if isinstance(message, Window) else F32
                    assert len(payload) == rows * row_bytes(encoding, N_EMBD)
                break
            except UnusableFrame:
                piece = b""  # noqa: PLW2901 - the decoder has kept what came behind


def _data_frame(values: list[Any], payload: bytes) -> bytes:
    head = packed(values)
    return struct.pack(">II", len(head), len(payload)) + head + payload


def _make_data(kinds: list[Any], rng: Random) -> bytes:
    out = b""
    for _ in range(rng.choice((1, 1, 2, 3))):
        values = changed(rng.choice(kinds), rng) if rng.random() < 0.8 else rng.choice(kinds)
        payload = b""
        if isinstance(values, list) and values[:1] == ["w"]:
            rows = values[6] if len(values) > 6 else 0
            size = rows * 4 * N_EMBD if isinstance(rows, int) and 0 < rows < 99 else 3
            payload = bytes(size) if rng.random() < 0.8 else rng.randbytes(rng.randrange(40))
        out += _data_frame(values, payload) if rng.random() < 0.98 else _framed(deep(rng))
    return out


def _data_target() -> Target:
    kinds = examples(DataMessage)
    seeds = [_data_frame(kind, b"") for kind in kinds if kind[0] != "w"]
    for kind in kinds:
        if kind[0] == "w":
            window = msgspec.convert(kind, Window)
            for name in ENCODINGS:
                payload = bytes(row_bytes(name, N_EMBD))
                seeds.append(encode(msgspec.structs.replace(window, encoding=name), payload))
    seeds.append(b"".join(seeds))
    return Target(
        "data", _read_data, (ProtocolFault,), tuple(seeds), partial(_make_data, kinds), share=8
    )


def _read_messages(decoder: Callable[[], MessageDecoder[Any]], data: bytes) -> None:
    one = decoder()
    for piece in _pieces(data):
        for _ in one.feed(piece):
            pass


def _make_framed(kinds: list[Any], rng: Random) -> bytes:
    out = b""
    for _ in range(rng.choice((1, 1, 2))):
        out += _framed(
            packed(changed(rng.choice(kinds), rng)) if rng.random() < 0.98 else deep(rng)
        )
    return out


def _framed_target(name: str, read: Callable[[bytes], None], union: Any, share: int = 4) -> Target:
    kinds = examples(union)
    seeds = tuple(_framed(packed(kind)) for kind in kinds)
    return Target(name, read, (LinkFault,), seeds, partial(_make_framed, kinds), share)


# The opening of a link, tickets, plans.


def _read_handshake(data: bytes) -> None:
    identity = _identity()
    for side in (
        ServerHandshake(identity.node_id, bytes(32)),
        ClientHandshake(identity.node_id, identity, "control", bytes(32)),
        VerdictReader(),
    ):
        try:
            for piece in _pieces(data):
                side.feed(piece)
        except LinkFault:
            continue


@cache
def _identity() -> Identity:
    return Identity.generate()


def _ticket_text(values: Any) -> bytes:
    body = packed(values)
    check = hashlib.sha256(body).digest()[:4]
    return PREFIX.encode() + base64.urlsafe_b64encode(body + check).rstrip(b"=")


def _ticket_target() -> Target:
    sound = [1, bytes(32), ["127.0.0.1:4242", "[::1]:4242"], "s" * 24, 2**31, 0, ""]
    return Target(
        "ticket",
        lambda data: Ticket.parse(data.decode("utf-8", "replace")),
        (PrivateFileFault,),
        (_ticket_text(sound),),
        lambda rng: _ticket_text(changed(sound, rng)),
        share=1,
    )


def _read_plan(data: bytes) -> None:
    """A plan of the gateway itself: the signature is right, the rest need not be."""
    identity = _identity()
    notice = PlanNotice(data, identity.sign(plan_signed_part(data)))
    checked_plan(notice, identity.node_id, None)


def _plan_target() -> Target:
    plan = example(msgspec.inspect.type_info(Plan)) | {"gateway": _identity().node_id}
    return Target(
        "plan",
        _read_plan,
        (ProtocolFault,),
        (packed(plan),),
        lambda rng: packed(changed(plan, rng)) if rng.random() < 0.98 else deep(rng),
        share=1,
    )


def _read_relay(data: bytes) -> None:
    """What a relay reads: the head of a request, then messages."""
    reader = asyncio.StreamReader(websocket.HEAD_BYTES_MAX * 2, loop=_loop())
    reader.feed_data(data)
    reader.feed_eof()
    request = _done(websocket.read_request(reader))
    bearer(request)
    websocket.upgrade(request, "iroh-relay-v1")
    while True:
        _, content = _done(websocket.read_message(reader, 4096))
        proved_key(content, bytes(32))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _done(coroutine: Any) -> Any:
    """What a coroutine returns that never has to wait, as all its bytes are there."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("a reader waits for bytes behind the end")


def _relay_target() -> Target:
    head = (
        b"GET /relay HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: YQ==\r\nSec-WebSocket-Protocol: iroh-relay-v1\r\n"
        b"Authorization: Bearer tide\r\n\r\n"
    )
    proof = bytes(32) + b"\x40" + bytes(64)
    seeds = (head, head + b"\x82\xe1" + bytes(4) + proof, head + b"\x82\xfe\x00\x61abcd" + proof)
    return Target(
        "relay",
        _read_relay,
        (ProtocolFault, asyncio.IncompleteReadError),
        seeds,
        lambda rng: head + havoc(seeds[rng.choice((1, 2))][len(head) :], rng),
        share=2,
    )


# Hidden states and requests.


def _read_payload(data: bytes) -> None:
    """The first byte chooses the encoding, the rest are rows."""
    encoding = ENCODINGS[data[0] % len(ENCODINGS)] if data else F32
    size = row_bytes(encoding, 33)
    body = data[1:]
    out = np.empty((max(1, len(body) // size), 33), np.float32)
    decode_into(out, body, encoding)
    assert is_finite(out) == bool(np.isfinite(out).all())


def _make_payload(rng: Random) -> bytes:
    which, rows = rng.randrange(len(ENCODINGS)), rng.randrange(1, 4)
    body = bytearray(rng.randbytes(rows * row_bytes(ENCODINGS[which], 33)))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(body))
        body[at : at + 2] = rng.choice((b"\xff\x7f", b"\x80\x7f", b"\x00\x7c", b"\x80\x80"))
    return bytes((which,)) + body


def _read_requests(data: bytes) -> None:
    for decode in (decode_chat, decode_completion):
        try:
            decode(data)
        except BadRequest:
            continue


def _make_request(rng: Random) -> bytes:
    asked: dict[str, Any] = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "a"}]},
        ],
        "prompt": ["a", [1, 2]],
        "stop": ["a"],
        "logit_bias": {"1": 1.0},
        "stream_options": {"include_usage": True},
        "chat_template_kwargs": {"a": 1},
        "tools": [],
        "response_format": {"type": "text"},
    }
    kept = {key: value for key, value in asked.items() if rng.random() < 0.5 or key == "model"}
    try:
        return msgspec.json.encode(changed(kept, rng))
    except (ValueError, TypeError):
        return b"[" * rng.choice((10, 3000))


def close() -> None:
    """Put away what readers need: a folder and a loop."""
    close_folder()
    if _loop.cache_info().currsize:
        _loop().close()
        _loop.cache_clear()


def targets() -> dict[str, Target]:
    """All readers by name."""
    found = (
        _data_target(),
        _framed_target("control", partial(_read_messages, control_decoder), ControlMessage, 8),
        _framed_target("bulk", partial(_read_messages, StreamBulkLink.speech.decoder), BulkMessage),
        _framed_target(
            "timing", partial(_read_messages, StreamTimingLink.speech.decoder), TimingMessage, 2
        ),
        _framed_target(
            "memory", partial(_read_messages, StreamMemoryLink.speech.decoder), MemoryMessage
        ),
        _framed_target("handshake", _read_handshake, Message, 2),
        _ticket_target(),
        _plan_target(),
        _relay_target(),
        Target("payload", _read_payload, (ValueError,), (bytes(1 + 4 * 33),), _make_payload, 2),
        Target("requests", _read_requests, (), (b'{"model":"m","prompt":"a"}',), _make_request),
        *file_targets(),
    )
    return {target.name: target for target in found}
