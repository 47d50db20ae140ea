"""What every engine child does: give up what it may not have, answer, say why it ends."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from atoll.domain.errors import AtollError
from atoll.engine.channel import Broken, ChildChannel
from atoll.engine.confine import confine

Serve = Callable[[ChildChannel[Any], tuple[str, ...]], None]
"""Answers on a channel until the parent is gone; told which measures hold."""


def run_engine(argv: list[str], messages: Any, serve: Serve) -> None:
    """Be the child whose descriptor `argv` names.

    Args:
        argv: The inherited descriptor's number.
        messages: The type of what the parent says.
        serve: Answers.

    Raises:
        SystemExit: It cannot go on; the parent was told why.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    isolation = confine()
    connection = socket.socket(fileno=int(argv[0]))
    channel = ChildChannel[Any](connection, msgspec.msgpack.Decoder(messages))
    try:
        serve(channel, isolation)
    except AtollError as error:
        channel.send(Broken(error.problem, error.hint))
        raise SystemExit(error.exit_code) from None
