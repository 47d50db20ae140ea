"""Requests as bytes, sound and not, which no HTTP client would send."""

from __future__ import annotations

import socket
from random import Random
from urllib.parse import urlsplit

from bench.fuzz_making import havoc

ANSWER_BYTES_MAX = 1 << 20


def sound_requests(key: str) -> tuple[bytes, ...]:
    """Requests that a gateway understands, or at least its HTTP parser; with the key in them."""
    with_key = b"Host: a\r\nAuthorization: Bearer " + key.encode() + b"\r\n"
    body = b'{"model":"tide","prompt":"a","max_tokens":1}'
    asked = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n" + with_key
    return (
        *(
            b"%b HTTP/1.1\r\n%b\r\n" % (line, with_key)
            for line in (
                b"GET /v1/models",
                b"GET /v1/models/a%2Fb%ff?a=%00",
                b"GET /v1/models/\xff\xfe",
                b"GET http://[::1/",
                b"OPTIONS *",
                b"CONNECT a:1",
                b"GET //a/..",
                b"GET ?a",
            )
        ),
        asked + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        asked + b"Content-Length: 9999999999999999999999\r\nExpect: 100-continue\r\n\r\n" + body,
        asked + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        b"GET /health HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
    )


def raw_request(sound: tuple[bytes, ...], rng: Random) -> bytes:
    """One of them, mostly with changes."""
    chosen = rng.choice(sound)
    return chosen if rng.random() < 0.1 else havoc(chosen, rng, sound)


def exchange(url: str, data: bytes, timeout_s: float) -> bytes:
    """Send bytes to the server at `url`, and its answer up to its end; empty if it gave none.

    Raises:
        TimeoutError: It neither answers nor closes.
    """
    place = urlsplit(url)
    answer = bytearray()
    with socket.create_connection((place.hostname, place.port), timeout_s) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
                if len(answer) > ANSWER_BYTES_MAX:
                    break
        except ConnectionError:
            # It may close on what it does not like before it has read all of it.
            pass
    return bytes(answer)
