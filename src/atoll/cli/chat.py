"""`atoll chat`: talk with a served model."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import msgspec
import uvloop
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

from atoll.cli.running import hear_interrupts
from atoll.cli.screen import say, show_json, write
from atoll.cli.settings import flags
from atoll.cli.target import TargetFlags
from atoll.client.api import ApiClient, ApiFault, ChatOptions
from atoll.client.chat import Conversation, choose_model
from atoll.client.replies import Usage
from atoll.domain.errors import BadRequest

PROMPT_CHARS_MAX = 2 * 1024 * 1024


@flags
class ChatFlags(TargetFlags):
    """Options of `atoll chat`."""

    model: str | None = None
    """The model to ask. Default: the first that is served."""

    system: str = ""
    """What the model is told about its part before the conversation."""

    max_tokens: PositiveInt | None = None
    """Most tokens of an answer. Default: what the context leaves."""

    temperature: Annotated[float | None, Parameter(validator=Number(gte=0, lte=2))] = None
    """How freely tokens are chosen, 0 to 2; 0 takes the likeliest. Default: the server's."""

    json: bool = False
    """Print the one answer as JSON, when it is complete."""

    def chat_options(self) -> ChatOptions:
        """For the requests."""
        return ChatOptions(max_tokens=self.max_tokens, temperature=self.temperature)


class ChatReply(msgspec.Struct, frozen=True):
    """The one answer, for `--json`."""

    model: str
    answer: str
    finish_reason: str
    usage: Usage | None


def chat(*prompt: str, options: ChatFlags | None = None) -> None:
    """Talk with a served model, here or at any OpenAI-compatible address.

    Without a prompt it is a conversation: Ctrl-C stops an answer, Ctrl-D leaves. With a
    prompt, or with one on standard input, it prints the one answer. The API key is read
    from `ATOLL_API_KEY` or from `--key-file`.

    Example: `atoll chat`

    Example: `atoll chat "What is an atoll?"`

    Args:
        prompt: What to say; nothing starts a conversation.
    """
    options = options or ChatFlags()
    endpoint = options.endpoint()
    text = " ".join(prompt)
    if not text and (options.json or not sys.stdin.isatty()):
        text = _read_input()
        if not text.strip():
            raise BadRequest("there is nothing to say", hint='try: atoll chat "Hello"')
    check_utf8(text)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        client = ApiClient(endpoint, renew=None if options.url else options.endpoint, tell=_broke)
        try:
            model = runner.run(choose_model(client, options.model))
            conversation = Conversation(model, options.system, options.chat_options())
            if not text:
                converse(runner, client, conversation)
            elif options.json:
                answer = runner.run(conversation.ask(client, text, lambda _text: None))
                show_json(ChatReply(model, answer.text, answer.finish, answer.usage))
            else:
                runner.run(conversation.ask(client, text, write))
                write("\n")
        finally:
            runner.run(client.close())


def _broke(line: str) -> None:
    say(f"\n{line}")


def _read_input() -> str:
    try:
        return sys.stdin.read(PROMPT_CHARS_MAX)
    except UnicodeDecodeError as error:
        raise _not_utf8() from error


def check_utf8(text: str) -> None:
    """Refuse text in which Python hides bytes that are not UTF-8.

    Raises:
        BadRequest: There are some.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _not_utf8() from error


def _not_utf8() -> BadRequest:
    return BadRequest("the text is not UTF-8", hint="convert it, for example with iconv")


def converse(runner: asyncio.Runner, client: ApiClient, conversation: Conversation) -> None:
    """Ask and answer in turns until Ctrl-D."""
    say(f"talking with {conversation.model}; Ctrl-C stops an answer, Ctrl-D leaves")
    with hear_interrupts():
        while (text := _next_question()) is not None:
            _answer(runner, client, conversation, text)
    write("\n")


def _next_question() -> str | None:
    """What is typed next; None at the end. Ctrl-C gives the line up."""
    while True:
        try:
            text = input("> ")
            check_utf8(text)
            if text.strip():
                return text
        except EOFError:
            return None
        except KeyboardInterrupt:
            write("\n")
        except UnicodeDecodeError:
            say("error: the text is not UTF-8")
        except BadRequest as error:
            say(f"error: {error.problem}\nhint: {error.hint}")


def _answer(
    runner: asyncio.Runner, client: ApiClient, conversation: Conversation, text: str
) -> None:
    try:
        runner.run(conversation.ask(client, text, write))
        write("\n")
    except KeyboardInterrupt:
        say("\n(stopped)")
    except ApiFault as fault:
        # The conversation goes on: the next question may fare better.
        say(f"\nerror: {fault.problem}" + (f"\nhint: {fault.hint}" if fault.hint else ""))
