from __future__ import annotations

import contextlib
import math
import struct
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.address import Address, HostPort
from atoll.domain.bits import Bits
from atoll.domain.control import (
    CONTROL_BYTES_MAX,
    Approved,
    Beat,
    CodeConfirmed,
    ControlMessage,
    Join,
    Knock,
    KnockAnswer,
    Leave,
    NotPrefetched,
    PlanNotice,
    Prefetch,
    Prefetched,
    Prefetching,
    Ready,
    Refusal,
    Reveal,
    SessionFailed,
    StageReport,
    Welcome,
)
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import Epoch, ModelId, NodeId, SessionId, ShardId, Slot
from atoll.domain.lent_memory import Borrower, BorrowerGone, Lent, MemoryGone, MemoryHere
from atoll.domain.wire import (
    ENCODINGS,
    HEADER_BYTES_MAX,
    Cancel,
    DataMessage,
    Discard,
    Grant,
    Park,
    Ping,
    Pong,
    Refused,
    Release,
    Resume,
    Window,
    payload_bytes,
)
from atoll.net.frames import (
    DataDecoder,
    control_decoder,
    encode,
    encode_control,
    encode_many,
)
from atoll.net.link import DataFrame, DataLimits, UnusableFrame

LIMITS = DataLimits(n_embd=3, rows_max=4)
NUMBER = st.integers(0, 2**63 - 1)
KEY = NodeId("ab" * 32)
ADDRESSES = st.builds(
    Address,
    st.none()
    | st.builds(HostPort, st.sampled_from(("", "reef.example", "::1")), st.integers(1, 65535)),
    st.lists(st.just(HostPort("10.0.0.1", 7)), max_size=3).map(tuple),
    st.sampled_from(("", "https://relay.example")),
)
KEYS = st.just(KEY)
EPOCHS = st.builds(Epoch, NUMBER, NUMBER)
SIGNATURES = st.sampled_from([b"", bytes(64)])
TEXT = st.text(max_size=40)


def _is_closed(address: Address) -> bool:
    """Whether it names the host of its TCP port."""
    return address.tls is None or bool(address.tls.host)


@st.composite
def window_frames(draw: st.DrawFn) -> DataFrame:
    window = Window(
        session=SessionId(draw(NUMBER)),
        slot=Slot(draw(st.integers(0, 255))),
        epoch=draw(EPOCHS),
        seq=draw(NUMBER),
        keep=draw(st.integers(0, 2**31 - 1)),
        rows=draw(st.integers(1, 4)),
        encoding=draw(st.sampled_from(ENCODINGS)),
        follow=draw(st.integers(0, 255)),
        exact=draw(st.booleans()),
    )
    length = payload_bytes(window, LIMITS.n_embd)
    return window, draw(st.binary(min_size=length, max_size=length))


BARE: st.SearchStrategy[DataMessage] = st.one_of(
    st.builds(Cancel, NUMBER, EPOCHS, NUMBER, SIGNATURES),
    st.builds(Release, NUMBER, st.integers(0, 255), EPOCHS, SIGNATURES),
    st.builds(Grant, st.integers(1, 1 << 16)),
    st.builds(Refused, NUMBER, NUMBER, TEXT, TEXT),
    st.builds(Ping, NUMBER) | st.builds(Pong, NUMBER),
)
FRAMES = st.lists(window_frames() | st.tuples(BARE, st.just(b"")), max_size=8)
MESSAGES: st.SearchStrategy[ControlMessage] = st.one_of(
    st.builds(Join, TEXT, TEXT, ADDRESSES, TEXT, TEXT, NUMBER, TEXT),
    st.builds(PlanNotice, st.binary(max_size=100), st.binary(max_size=64)),
    st.builds(Welcome, TEXT),
    st.builds(Refusal, TEXT, TEXT, st.booleans()),
    st.builds(Leave, TEXT),
    st.builds(
        *(Prefetch, NUMBER, st.just("a" * 64), st.just(9), st.just(0), st.just(1), st.just(5)),
        *(st.just("b" * 64), st.integers(1, 1 << 59)),
    ),
    st.builds(Prefetching, NUMBER, st.integers(0, 1 << 59), st.integers(0, 1 << 59)),
    st.builds(Prefetched, NUMBER) | st.builds(NotPrefetched, NUMBER, TEXT),
    st.builds(Knock, TEXT, st.just(bytes(32))),
    st.builds(KnockAnswer, st.just(bytes(32))) | st.builds(Reveal, st.just(bytes(32))),
    st.builds(CodeConfirmed),
    st.builds(Approved, st.just((HostPort("10.0.0.1", 7),)), st.integers(0, 65535)),
    st.builds(MemoryHere, KEYS, ADDRESSES.filter(_is_closed), st.integers(1 << 20, 1 << 49)),
    st.builds(Borrower, KEYS, ADDRESSES.filter(_is_closed)),
    st.builds(MemoryGone, KEYS) | st.builds(BorrowerGone, KEYS),
    st.builds(Lent, st.integers(0, 1 << 49), st.integers(0, 1 << 49)),
    st.builds(Beat, NUMBER),
)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({c % (len(data) + 1) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


def frame(header: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">II", len(header), len(payload)) + header + payload


def a_window(**changes: Any) -> Window:
    window = Window(SessionId(7), Slot(1), Epoch(1, 2), seq=3, keep=4, rows=2, encoding="f32")
    return msgspec.structs.replace(window, **changes)


def feed_each_byte(decoder: DataDecoder, data: bytes) -> list[DataFrame]:
    return [one for byte in data for one in decoder.feed(bytes([byte]))]


def decode(data: bytes, limits: DataLimits = LIMITS) -> list[DataFrame]:
    return list(DataDecoder(limits).feed(data))


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_any_chunking_gives_the_same_frames(frames: list[DataFrame], cuts: list[int]) -> None:
    data = encode_many(frames)
    assert data == b"".join(encode(*one) for one in frames)
    decoder = DataDecoder(LIMITS)
    got = [one for chunk in cut(data, cuts) for one in decoder.feed(chunk)]
    assert got == frames
    assert all(type(payload) is bytes for _, payload in got)


def test_byte_by_byte() -> None:
    frames: list[DataFrame] = [(a_window(), bytes(range(24))), (Ping(3), b""), (Grant(1), b"")]
    decoder = DataDecoder(LIMITS)
    assert feed_each_byte(decoder, encode_many(frames)) == frames


@given(messages=st.lists(MESSAGES, max_size=6), cuts=st.lists(st.integers(0, 4000), max_size=9))
def test_any_chunking_gives_the_same_messages(
    messages: list[ControlMessage], cuts: list[int]
) -> None:
    data = b"".join(encode_control(one) for one in messages)
    decoder = control_decoder()
    assert [one for chunk in cut(data, cuts) for one in decoder.feed(chunk)] == messages


@given(chunks=st.lists(st.binary(max_size=200), max_size=8))
def test_arbitrary_bytes_raise_nothing_but_protocol_faults(chunks: list[bytes]) -> None:
    for decoder in (DataDecoder(LIMITS), control_decoder()):
        with contextlib.suppress(ProtocolFault):
            for chunk in chunks:
                list(decoder.feed(chunk))


@given(body=st.binary(min_size=1, max_size=200))
def test_arbitrary_headers_raise_nothing_but_protocol_faults(body: bytes) -> None:
    for decoder, data in (
        (DataDecoder(LIMITS), frame(body)),
        (control_decoder(), struct.pack(">I", len(body)) + body),
    ):
        with contextlib.suppress(ProtocolFault):
            list(decoder.feed(data))


@given(frames=FRAMES.filter(bool), at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_damaged_frames_raise_nothing_but_protocol_faults(
    frames: list[DataFrame], at: int, flip: int
) -> None:
    data = bytearray(encode_many(frames))
    data[at % len(data)] ^= flip
    with contextlib.suppress(ProtocolFault):
        for message, payload in DataDecoder(LIMITS).feed(bytes(data)):
            if isinstance(message, Window):
                assert len(payload) == payload_bytes(message, LIMITS.n_embd)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (struct.pack(">II", 0, 0), "header of 0 bytes"),
        (struct.pack(">II", HEADER_BYTES_MAX + 1, 0), "header of 4097 bytes"),
        (struct.pack(">II", 2**32 - 1, 0), "header of"),
        (struct.pack(">II", 10, 4 * 3 * 4 + 1), "payload of 49 bytes"),
        (struct.pack(">II", 10, 2**32 - 1), "payload of"),
        (b"GET / HTTP/1.1\r\n", "header of"),
    ],
)
def test_lengths_are_refused_before_anything_is_kept(data: bytes, problem: str) -> None:
    with pytest.raises(ProtocolFault, match=problem):
        decode(data)
    decoder = DataDecoder(LIMITS)
    with pytest.raises(ProtocolFault, match=problem):
        feed_each_byte(decoder, data)


@pytest.mark.parametrize("length", [0, 23, 25, 14])
def test_payload_must_be_as_long_as_its_window_says(length: int) -> None:
    with pytest.raises(ProtocolFault, match=f"payload of {length} bytes, 2 rows in f32 take 24"):
        decode(encode(a_window(), bytes(length)))


def test_encodings_dictate_the_length() -> None:
    assert decode(encode(a_window(encoding="f16s"), bytes(14)))
    with pytest.raises(ProtocolFault, match="unknown encoding 'int4'"):
        decode(encode(a_window(encoding="int4"), bytes(24)))


@pytest.mark.parametrize(
    "changes",
    [
        {"session": -1},
        {"session": 2**63},
        {"slot": 256},
        {"slot": -1},
        {"seq": -1},
        {"keep": -1},
        {"keep": 2**31},
        {"follow": 256},
        {"follow": -1},
        {"epoch": Epoch(-1, 0)},
        {"epoch": Epoch(0, 2**63)},
    ],
)
def test_numbers_of_a_window_have_ranges(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolFault, match="out of range"):
        decode(encode(a_window(**changes), bytes(24)))


@pytest.mark.parametrize("rows", [0, -1, 5, 2**62])
def test_rows_have_a_range(rows: int) -> None:
    with pytest.raises(ProtocolFault, match="rows, allowed are 1 to 4"):
        decode(encode(a_window(rows=rows), bytes(24)))


@pytest.mark.parametrize(
    "message",
    [
        Cancel(SessionId(-1), Epoch(1, 1), 0),
        Cancel(SessionId(1), Epoch(-1, 1), 0),
        Cancel(SessionId(1), Epoch(1, 1), 0, b"short"),
        Release(SessionId(1), Slot(256), Epoch(1, 1)),
        Release(SessionId(1), Slot(1), Epoch(1, 1), bytes(65)),
        Park(SessionId(1), Slot(256), Epoch(1, 1), 1),
        Park(SessionId(1), Slot(1), Epoch(1, 1), 0),
        Park(SessionId(-1), Slot(1), Epoch(1, 1), 1),
        Park(SessionId(1), Slot(1), Epoch(-1, 1), 1),
        Park(SessionId(1), Slot(1), Epoch(1, 1), 1, b"short"),
        Resume(SessionId(1), Slot(-1), Epoch(1, 1), SessionId(2), 1),
        Resume(SessionId(1), Slot(1), Epoch(1, 1), SessionId(-2), 1),
        Resume(SessionId(1), Slot(1), Epoch(1, 1), SessionId(2), 1 << 31),
        Discard(SessionId(-1), Epoch(1, 1)),
        Discard(SessionId(1), Epoch(1, 1), bytes(3)),
        Grant(0),
        Grant(-5),
        Grant(1 << 17),
        Refused(SessionId(1), 0, "c" * 65, ""),
        Refused(SessionId(1), 0, "", "p" * 1025),
        Refused(SessionId(1), -1, "", ""),
        Ping(-1),
        Pong(-1),
        Pong(1 << 63),
    ],
)
def test_other_messages_have_ranges_too(message: DataMessage) -> None:
    with pytest.raises(ProtocolFault, match=type(message).__name__):
        decode(encode(message))


def test_only_windows_have_payloads() -> None:
    with pytest.raises(ProtocolFault, match="Ping with a payload of 3 bytes"):
        decode(encode(Ping(1), b"abc"))
    with pytest.raises(ProtocolFault, match="Pong with a payload of 3 bytes"):
        decode(encode(Pong(1), b"abc"))


@pytest.mark.parametrize(
    "header",
    [
        b"\xc0",
        b"\x91" * 4000,
        msgspec.msgpack.encode(["p"]),
        msgspec.msgpack.encode(["p", "1"]),
        msgspec.msgpack.encode(["p", True]),
        msgspec.msgpack.encode(["p", 1.5]),
        msgspec.msgpack.encode(["a"]),
        msgspec.msgpack.encode(["a", "1"]),
        msgspec.msgpack.encode(["z", 1]),
        msgspec.msgpack.encode(["p", 1]) + b"\x00",
        b"\x95\xa1n\x01\x01\xa2\xff\xfe\xa1a",
        b"\x9f\xa1p\x01" + b"\x91" * 4000,
        b"\xdd\xff\xff\xff\xff\xa1p",
    ],
)
def test_malformed_headers(header: bytes) -> None:
    with pytest.raises(ProtocolFault, match="malformed header"):
        decode(frame(header))


def test_unknown_trailing_fields_are_tolerated() -> None:
    assert decode(frame(msgspec.msgpack.encode(["p", 1, "new"]))) == [(Ping(1), b"")]


def test_frames_before_a_fault_are_given_and_none_after() -> None:
    data = encode(Ping(1)) + encode(Grant(0)) + encode(Ping(2))
    decoder = DataDecoder(LIMITS)
    got = decoder.feed(data)
    assert next(got) == (Ping(1), b"")
    with pytest.raises(ProtocolFault, match="Grant"):
        next(got)
    with pytest.raises(ProtocolFault, match="Grant"):
        list(decoder.feed(encode(Ping(3))))


@pytest.mark.parametrize(
    ("wrong", "window"),
    [
        (encode(a_window(), bytes(23)), a_window()),
        (encode(a_window(rows=9), bytes(24)), a_window(rows=9)),
        (encode(a_window(encoding="int4"), bytes(24)), a_window(encoding="int4")),
        (encode(a_window(slot=Slot(256)), bytes(24)), None),
        (frame(msgspec.msgpack.encode(["z", 1])), None),
    ],
)
@pytest.mark.parametrize("cut_at", [0, 3, 8, 20, 10_000])
def test_frames_behind_an_unusable_one_are_still_read(
    wrong: bytes, window: Window | None, cut_at: int
) -> None:
    data = encode(Ping(1)) + wrong + encode(a_window(), bytes(24)) + encode(Ping(2))[:5]
    decoder = DataDecoder(LIMITS)
    got: list[DataMessage] = []
    faults: list[UnusableFrame] = []
    for chunk in (data[:cut_at], data[cut_at:], encode(Ping(2))[5:]):
        rest = chunk
        while True:
            try:
                for message, _ in decoder.feed(rest):
                    got.append(message)
                break
            except UnusableFrame as fault:
                faults.append(fault)
                rest = b""
    assert got == [Ping(1), a_window(), Ping(2)]
    assert [fault.window for fault in faults] == [window]


def test_our_own_oversized_messages_are_bugs() -> None:
    refused = Refused(SessionId(1), 0, "code", "p" * HEADER_BYTES_MAX)
    with pytest.raises(ValueError, match="header of"):
        encode(refused)
    with pytest.raises(ValueError, match="header of"):
        encode_many([(refused, b"")])
    with pytest.raises(ValueError, match="control message"):
        encode_control(Leave("x" * CONTROL_BYTES_MAX))


def a_join(**changes: Any) -> Join:
    return msgspec.structs.replace(
        Join("s", "n", Address(tls=HostPort("h", 1)), "i", "e", 1, "v"), **changes
    )


def a_report(**changes: Any) -> StageReport:
    numbers = {field.name: 1 for field in msgspec.structs.fields(StageReport)}
    values = numbers | {"epoch": Epoch(1, 1), "isolation": ()}
    return msgspec.convert(values | changes, StageReport)


@pytest.mark.parametrize(
    "message",
    [
        a_join(address=Address(tls=HostPort("a", 0))),
        a_join(address=Address(tls=HostPort("a..b", 1))),
        a_join(address=Address(quic=(HostPort("a.name", 1),))),
        a_join(address=Address(relay="file:///etc")),
        a_join(name="n" * 256),
        a_join(secret="s" * 256),
        a_join(memory_free_bytes=-1),
        Ready(Epoch(1, 1), 1, 1, math.nan),
        Ready(Epoch(1, 1), 1, 1, math.inf),
        Ready(Epoch(1, 1), 1, 1, -1.0),
        Ready(Epoch(-1, 1), 1, 1, 1.0),
        Ready(Epoch(1, 1), -1, 1, 1.0),
        Ready(Epoch(1, 1), 1, 1, 1.0, "d" * 256),
        Ready(Epoch(1, 1), 1, 1, 1.0, "", Bits("d" * 256, together=True)),
        a_report(rows=-1),
        a_report(memory_bytes=-1),
        a_report(engine_s=math.nan),
        a_report(next_rtt_s=math.nan),
        a_report(next_rtt_s=math.inf),
        a_report(next_rtt_s=-0.5),
        a_report(next_rtt_s=1e300),
        a_report(next_bytes=-1),
        SessionFailed(Epoch(1, 1), SessionId(-1), 1, "", ""),
        Prefetch(1, ModelId("../a"), 6, 0, 1, 5, ShardId("b" * 64), 1),
        Prefetching(-1, 0, 0),
        Prefetched(-1),
        NotPrefetched(-1, ""),
        Knock("n" * 256, bytes(32)),
        Knock("n", b""),
        Knock("n", bytes(33)),
        KnockAnswer(bytes(31)),
        Reveal(bytes(64)),
        Approved((HostPort("a", 0),)),
        Approved((HostPort("", 1),)),
        Approved((HostPort("a", 1),) * 17),
        Approved((), 70_000),
        Approved((), 0, "file:///etc"),
        a_join(lends_bytes=-1),
        MemoryHere(NodeId("ab"), Address(), 1 << 30),
        MemoryHere(KEY, Address(tls=HostPort("", 1)), 1 << 30),
        MemoryHere(KEY, Address(tls=HostPort("a", 0)), 1 << 30),
        MemoryHere(KEY, Address(), 0),
        MemoryHere(KEY, Address(), 1 << 50),
        MemoryGone(NodeId("")),
        Borrower(NodeId("A" * 64), Address()),
        Borrower(KEY, Address(relay="file:///etc")),
        BorrowerGone(NodeId("../x")),
        Lent(-1, 0),
        Lent(0, -1),
        Lent(1 << 50, 0),
        Beat(-1),
    ],
)
def test_control_messages_have_ranges(message: ControlMessage) -> None:
    with pytest.raises(ProtocolFault, match=type(message).__name__):
        list(control_decoder().feed(encode_control(message)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (struct.pack(">I", 0), "message of 0 bytes"),
        (struct.pack(">I", CONTROL_BYTES_MAX + 1), "message of"),
        (b"\x00\x00\x00\x01\xc0", "malformed"),
        (struct.pack(">I", 200_000) + b"\x91" * 200_000, "malformed"),
        (b"\x00\x00\x00\x09\x81\xa4type\xa1q\x00", "malformed"),
    ],
)
def test_malformed_control_messages(data: bytes, problem: str) -> None:
    with pytest.raises(ProtocolFault, match=problem):
        list(control_decoder().feed(data))


def test_control_decoder_stays_at_its_fault() -> None:
    decoder = control_decoder()
    got = decoder.feed(encode_control(Beat(1)) + struct.pack(">I", 0))
    assert next(got) == Beat(1)
    for _ in range(2):
        with pytest.raises(ProtocolFault, match="0 bytes"):
            list(got or decoder.feed(b""))
        got = decoder.feed(encode_control(Beat(2)))
