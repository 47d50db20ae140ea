"""Requests as bytes: the sound ones are what they seem to be, and an answer is read to its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from random import Random
from threading import Thread

import pytest
from bench.raw_http import exchange, raw_request, sound_requests


def serve_once(answer: Callable[[socket.socket], None]) -> str:
    """A server for one connection; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            answer(connection)

    Thread(target=serve).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_whole_answer_is_read() -> None:
    def answer(connection: socket.socket) -> None:
        asked = connection.recv(100)
        connection.sendall(b"a" * 100_000 + asked)

    url = serve_once(answer)
    got = await asyncio.to_thread(exchange, url, b"tide", 20)
    assert got == b"a" * 100_000 + b"tide"


def test_silence_is_noticed() -> None:
    ended = socket.socketpair()

    def wait(_connection: socket.socket) -> None:
        ended[0].recv(1)

    url = serve_once(wait)
    with pytest.raises(TimeoutError):
        exchange(url, b"tide", 0.05)
    ended[1].send(b"a")
    for end in ended:
        end.close()


def test_one_seed_makes_one_request() -> None:
    sound = sound_requests("atoll-key")
    made = [raw_request(sound, Random(seed)) for seed in range(200)]
    assert made == [raw_request(sound, Random(seed)) for seed in range(200)]
    assert 5 < sum(one in sound for one in made) < 100
