"""Children that misbehave, for the tests of the parent's end; each `main` runs in a real child.

The first request says how; what they say is a struct of one field.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from atoll.engine.channel import Broken, ChildChannel


class Order(msgspec.Struct, frozen=True, tag="order"):
    do: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    text: str


def main(argv: list[str]) -> None:
    connection = socket.socket(fileno=int(argv[0]))
    channel = ChildChannel[Order](connection, msgspec.msgpack.Decoder(Order))
    while (received := channel.receive()) is not None:
        order, payload = received
        match order.do:
            case "echo":
                channel.send(Answer("echo"), payload)
            case "many":
                for i in range(200):
                    channel.send(Answer(str(i)), bytes([i]))
            case "broken":
                channel.send(Broken("the shard is eaten", "pull it again"))
                signal.pause()
            case "garbage":
                connection.sendall(b"\xff" * 64)
                signal.pause()
            case "abort":
                print("GGML_ASSERT failed", file=sys.stderr, flush=True)
                os.abort()
            case "open":
                file, mode = payload.decode().split("|")
                try:
                    with Path(file).open(mode) as opened:
                        if mode == "r+b":
                            opened.truncate(0)
                except PermissionError as error:
                    told = f"refused after {'opening' if error.filename is None else 'nothing'}"
                    channel.send(Answer(told))
                else:
                    channel.send(Answer("changed"))
            case "exit":
                raise SystemExit(3)
            case "deaf":
                signal.pause()
