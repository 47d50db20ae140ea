from __future__ import annotations

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import Usage
from atoll.ring.session import Session

CONFIG = CoordinatorConfig(4, 16, 8, chunk_rows=4, exact_chunk_rows=3)
EPOCH = Epoch(1, 1)


def begin(prompt: int, max_tokens: int, *, exact: bool = False) -> Session:
    request = GenerateRequest(tuple(range(prompt)), max_tokens, exact=exact)
    return Session.begin(SessionId(1), Slot(0), request, CONFIG)


def test_tokens_end_with_the_context() -> None:
    assert begin(10, 3).tokens_max == 3
    assert begin(10, 99).tokens_max == 7
    assert begin(16, 99).tokens_max == 1


def test_chunks_tile_the_prompt() -> None:
    session = begin(10, 1)
    chunks = []
    while session.prompt_left:
        chunks.append(session.next_chunk())
    assert [(c.keep, c.tokens) for c in chunks] == [
        (0, (0, 1, 2, 3)),
        (4, (4, 5, 6, 7)),
        (8, (8, 9)),
    ]
    assert [session.is_prompt(position) for position in (9, 10)] == [True, False]


def test_several_windows_may_be_on_their_way() -> None:
    session = begin(4, 9)
    windows = [session.send(EPOCH, keep, 2, 0) for keep in (0, 2, 4)]
    assert [w.seq for w in windows] == [0, 1, 2]
    assert session.fault_of(windows[0]) is None
    fault = session.fault_of(windows[1])
    assert fault is not None
    assert fault.code == "seq"
    session.out.popleft()
    assert session.fault_of(windows[1]) is None


def test_only_the_prompts_last_chunk_and_what_follows_samples() -> None:
    session = begin(6, 2)
    items = [session.tail_item(session.send(EPOCH, k, n, 0), b"") for k, n in ((0, 4), (4, 2))]
    assert [(i.sample, i.chain, i.last) for i in items] == [
        (False, False, False),
        (True, True, False),
    ]
    session.sampled = 1
    item = session.tail_item(session.send(EPOCH, 6, 1, 0), b"")
    assert (item.sample, item.chain, item.last) == (True, False, True)
    assert session.usage == Usage(6, 1)
