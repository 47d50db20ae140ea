"""A system's streams: steps by hand, room, pauses, losses."""

from __future__ import annotations

import pytest
from tests.sim.serving.paces import ring, server

from atoll.forecast.paces import Pace
from atoll.sim.serving.replica import NEVER, Replica
from atoll.sim.serving.requests import Request
from atoll.sim.serving.streams import Stream

PROMPT_S = 1e-4
STEP_S = 0.01


def play(replica: Replica, *requests: Request) -> list[tuple[float, Stream]]:
    """Let requests come and be answered; when each stream left."""
    ended: list[tuple[float, Stream]] = []
    coming = list(requests)
    while coming or replica.ends_s < NEVER:
        if coming and coming[0].at_s <= replica.ends_s:
            request = coming.pop(0)
            replica.submit(Stream(request), request.at_s)
        else:
            now_s = replica.ends_s
            ended += [(now_s, stream) for stream in replica.end_phase(now_s)]
    return ended


def test_one_request_by_hand() -> None:
    ((end_s, stream),) = play(Replica(server()), Request(1.0, 300, 11))
    # The prompt, and with it the first token; then ten steps.
    assert stream.first_s == pytest.approx(1.0 + 300 * PROMPT_S, rel=5e-3)
    assert end_s == pytest.approx(stream.first_s + 10 * STEP_S)


def test_a_long_prompt_takes_several_steps() -> None:
    ((end_s, stream),) = play(Replica(server()), Request(0.0, 1200, 1))
    assert end_s == stream.first_s == pytest.approx(1200 * PROMPT_S, rel=3e-2)


def test_who_comes_later_waits_for_the_step_and_holds_up_the_first() -> None:
    replica = Replica(server())
    ended = play(replica, Request(0.0, 100, 21), Request(0.055, 200, 2))
    (early_s, second), (late_s, first) = ended
    # Steps end at 10 ms + k x 10 ms: the one at 0.06 s, then one with the prompt.
    assert second.first_s == pytest.approx(0.06 + STEP_S + 200 * PROMPT_S, rel=5e-3)
    assert early_s == pytest.approx(second.first_s + STEP_S)
    assert late_s == pytest.approx(0.01 + 20 * STEP_S + 200 * PROMPT_S, rel=5e-3)
    assert first.request.prompt == 100
    assert replica.busy_s == pytest.approx(late_s)
    assert replica.streams_peak == 2


def test_short_prompts_share_a_step() -> None:
    ended = play(Replica(server()), *[Request(0.0, 100, 1) for _ in range(3)])
    first_s, *others_s = [at_s for at_s, _ in ended]
    # The first came alone; the other two were there when it was done.
    assert first_s == pytest.approx(100 * PROMPT_S, rel=5e-3)
    assert others_s == pytest.approx([300 * PROMPT_S] * 2, rel=5e-3)


@pytest.mark.parametrize("pace", [server(streams=1), server(room=250)])
def test_without_room_requests_wait(pace: Pace) -> None:
    (one_s, _), (_, second) = play(Replica(pace), Request(0, 100, 101), Request(0.5, 100, 101))
    assert one_s == pytest.approx(0.01 + 100 * STEP_S, rel=1e-3)
    assert second.first_s == pytest.approx(one_s + 100 * PROMPT_S, rel=5e-3)


def test_a_request_longer_than_the_room() -> None:
    replica = Replica(server(room=100))
    assert not replica.can_hold(Stream(Request(0.0, 90, 11)))
    assert replica.can_hold(Stream(Request(0.0, 90, 10)))


def test_who_waits_too_long_leaves() -> None:
    replica = Replica(server(streams=1), patience_s=0.3)
    ended = play(replica, Request(0.0, 100, 101), Request(0.5, 100, 11), Request(0.9, 100, 11))
    assert [stream.first_s < 0 for _, stream in ended] == [False, True, False]
    assert replica.outstanding == 0


def test_a_pause_keeps_what_steps_made() -> None:
    replica = Replica(server())
    replica.submit(Stream(Request(0.0, 100, 21)), 0.0)
    replica.end_phase(replica.ends_s)
    replica.pause(0.065, 2.0)
    assert replica.ends_s == pytest.approx(2.065)
    assert replica.end_phase(replica.ends_s) == []
    # Five of twenty steps were whole; fifteen are to come.
    assert replica.ends_s == pytest.approx(2.065 + 15 * STEP_S)
    assert len(replica.end_phase(replica.ends_s)) == 1


def test_what_comes_in_a_pause_waits_for_its_end() -> None:
    replica = Replica(server())
    replica.pause(0.0, 1.0)
    stream = Stream(Request(0.5, 100, 1))
    replica.submit(stream, 0.5)
    assert replica.ends_s == 1.0
    replica.end_phase(1.0)
    assert replica.end_phase(replica.ends_s) == [stream]
    assert stream.first_s == pytest.approx(1.0 + 100 * PROMPT_S, rel=5e-3)


def test_a_lost_system_gives_its_streams_back_with_their_tokens() -> None:
    replica = Replica(server(streams=2))
    streams = [
        Stream(Request(0.0, 100, 21)),
        Stream(Request(0.0, 400, 5)),
        Stream(Request(0, 9, 9)),
    ]
    for stream in streams:
        replica.submit(stream, 0.0)
    replica.end_phase(replica.ends_s)
    replica.end_phase(replica.ends_s)
    at_s = replica.ends_s - 0.001
    left = replica.give_up(at_s)
    assert sorted(left, key=streams.index) == streams
    decoding, second, waiting = streams
    assert decoding.made >= 2
    assert decoding.prompt == 100 + decoding.made
    assert decoding.left + decoding.made == 21
    assert (waiting.made, waiting.left, waiting.prompt) == (0, 9, 9)
    assert not replica.is_up
    assert (replica.outstanding, replica.ends_s) == (0, NEVER)
    # Elsewhere they go on from there, and the first token stays the first.
    first_s = decoding.first_s
    other = Replica(server())
    other.submit(decoding, 5.0)
    other.end_phase(other.ends_s)
    ended_s = other.ends_s
    assert other.end_phase(ended_s) == [decoding]
    assert decoding.first_s == first_s
    assert second.prompt >= 400


def test_a_ring_s_prompt_fits_between_flights() -> None:
    replica = Replica(ring())
    ended = play(replica, Request(0.0, 100, 11), Request(0.32, 90, 2))
    second, first = ended[0][1], ended[1][1]
    assert first.first_s == pytest.approx(0.05 + 100 * PROMPT_S, rel=1e-3)
    # The slowest machine works a tenth of a lap, and has nine tenths for the prompt.
    assert second.first_s == pytest.approx(0.32 + 0.05 + 90 * PROMPT_S / 0.9, rel=1e-3)
    # Nobody was held up.
    assert ended[1][0] == pytest.approx(0.01 + 10 * 0.1, rel=1e-2)


def test_a_full_ring_is_held_up_by_prompts() -> None:
    pace = ring(works_s=0.02, streams=32)
    alone = play(Replica(pace), *[Request(0.0, 1, 41) for _ in range(10)])
    beside = play(Replica(pace), *[Request(0.0, 1, 41) for _ in range(10)], Request(1.0, 2000, 1))
    assert beside[-1][0] - alone[-1][0] > 0.15


def test_drafts_save_steps() -> None:
    pace = server()
    pace.tokens = 2.5
    ((end_s, stream),) = play(Replica(pace), Request(0.0, 100, 26))
    assert end_s == pytest.approx(stream.first_s + 10 * STEP_S)


def test_prompts_alone_are_handed_over() -> None:
    first, second = Replica(server(), hands_over=True), Replica(server(), takes_over=True)
    ((at_s, stream),) = play(first, Request(0.0, 100, 11))
    assert (stream.made, stream.left) == (1, 10)
    second.submit(stream, at_s)
    ended_s = second.ends_s
    assert second.end_phase(ended_s) == [stream]
    # No prompt is computed again.
    assert ended_s == pytest.approx(at_s + 10 * STEP_S)


def test_prompts_of_machines_of_which_nothing_is_known_take_no_time() -> None:
    pace = ring()
    pace.operation_s = 0.0
    ended = play(Replica(pace), Request(0.0, 100, 21), Request(0.5, 100, 21))
    assert [at_s for at_s, _ in ended] == pytest.approx([2.0, 2.5], rel=1e-3)
    busy = ring(lap_s=0.01, works_s=0.01)
    busy.operation_s = 0.0
    assert len(play(Replica(busy), Request(0.0, 100, 21), Request(0.1, 100, 21))) == 2
