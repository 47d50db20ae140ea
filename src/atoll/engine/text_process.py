"""The text process: tokeniser and chat template, away from the gateway's loop.

A template is a program out of a stranger's file, and a tokeniser is C++ over a
stranger's text. Both run here, in a child without network, with bounded memory
and a bound on the processor time of each request:

- after `REQUEST_CPU_S` a timer raises an error in whatever Python is running;
- if that does not help, because the time goes by inside the engine, the system
  kills the process some seconds later (`STUCK_CPU_S`), and the gateway starts
  another for the next request.
"""

from __future__ import annotations

import datetime
import math
import resource
import secrets
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import msgspec
import numpy as np

from atoll.domain.errors import AtollError, BadModel, BadRequest, EngineFault
from atoll.engine.channel import Broken, ChildChannel
from atoll.engine.confine import confine
from atoll.engine.prompt import PromptMaker
from atoll.engine.text_messages import (
    AskChat,
    AskTokens,
    Refusal,
    TextOptions,
    TextReady,
    TextRequest,
    Tokens,
)

REQUEST_CPU_S = 2.0
STUCK_CPU_S = 3
AGAIN_S = 0.1
NONCE_BYTES = 16


class _OutOfTimeError(BaseException):
    """The request's processor time is used up. No `except Exception` may stop it."""


def _raise_out_of_time(_signal: int, _frame: FrameType | None) -> None:
    raise _OutOfTimeError


@contextmanager
def _cpu_bound() -> Iterator[None]:
    """Bound the processor time of what runs inside."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    kill_at_s = math.ceil(usage.ru_utime + usage.ru_stime + REQUEST_CPU_S) + STUCK_CPU_S
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (kill_at_s, hard))
    # Again and again, should the first one be raised where errors are swallowed.
    signal.setitimer(signal.ITIMER_PROF, REQUEST_CPU_S, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(maker: PromptMaker, ask: AskChat | AskTokens) -> list[int]:
    if isinstance(ask, AskTokens):
        return maker.tokens(ask.text)
    return maker.chat(
        ask.turns,
        nonce=secrets.token_hex(NONCE_BYTES),
        now=datetime.datetime.now(datetime.UTC),
        extra=ask.extra,
    )


def _serve_one(
    channel: ChildChannel[TextRequest], maker: PromptMaker, ask: AskChat | AskTokens
) -> None:
    number = ask.number
    try:
        with _cpu_bound():
            ids = np.array(_answer(maker, ask), "<i4").tobytes()
    except BadRequest as error:
        reply = Refusal(number, error.problem, error.hint, error.param)
    except BadModel as error:
        reply = Refusal(number, error.problem, error.hint, of_model=True)
    except (_OutOfTimeError, MemoryError) as error:
        what = "memory" if isinstance(error, MemoryError) else "processor time"
        reply = Refusal(
            number,
            f"preparing the prompt takes too much {what}",
            "shorten the messages; if short ones fail too, the model's template is at fault",
            "messages" if isinstance(ask, AskChat) else "prompt",
        )
    else:
        channel.send(Tokens(number), ids)
        return
    channel.send(reply)


def serve(channel: ChildChannel[TextRequest], isolation: tuple[str, ...]) -> None:
    """Answer requests until the parent is gone."""
    maker: PromptMaker | None = None
    while (received := channel.receive()) is not None:
        message, _ = received
        if isinstance(message, TextOptions):
            maker = PromptMaker(Path(message.path))
            channel.send(TextReady(maker.n_vocab, maker.has_template, isolation))
        elif maker is None:
            raise EngineFault("the text process was asked to work before it was loaded")
        else:
            _serve_one(channel, maker, message)


def _say_without_contents(
    kind: type[BaseException], _error: BaseException, trace: TracebackType | None
) -> None:
    """Log where an error happened; its message could quote somebody's prompt."""
    where = traceback.extract_tb(trace)[-1:]
    place = f" at {where[0].filename}:{where[0].lineno}" if where else ""
    print(f"text process failed: {kind.__name__}{place}", file=sys.stderr)


def main(argv: list[str]) -> None:
    """Entry of the child; see `engine.process.spawn_confined`."""
    sys.excepthook = _say_without_contents
    isolation = confine()
    signal.signal(signal.SIGPROF, _raise_out_of_time)
    connection = socket.socket(fileno=int(argv[0]))
    channel = ChildChannel[TextRequest](connection, msgspec.msgpack.Decoder(TextRequest))
    try:
        serve(channel, isolation)
    except AtollError as error:
        channel.send(Broken(error.problem, error.hint))
        raise SystemExit(error.exit_code) from None
