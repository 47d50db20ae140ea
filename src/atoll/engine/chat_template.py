"""A model's chat template: messages in, text out, with what users wrote kept apart.

The template comes from a stranger's file and the messages from the network.
Two things are held here; time and memory are bounded by the process this runs
in (`engine.text_process`), as no sandbox in Python can bound them.

- The template runs in Jinja's immutable sandbox with the few names that
  templates of published models expect, and nothing drawn from clock or chance.
- What a user wrote never becomes a control token, while the template's own
  markers do. So the template is rendered with an unguessable placeholder for
  each message's content: what comes out is the template's text, free of user
  input, with the places where content goes. Control tokens are looked for in
  the template's text only. White space around a content stays outside the
  placeholder, so that a template which trims still does, and so that it merges
  with the template's own white space as the model was trained.

Rendering with the true contents as well shows whether the placeholders changed
anything: a template may test, cut or rewrite a content (Qwen's drops the
thoughts from earlier answers). Then the true rendering is used, on two
conditions that keep user text from acting as a marker: no content holds the
text of a control token, and the control tokens found in the true rendering are
those of the placeholder rendering, in number and order. Otherwise the request
is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from atoll.domain.errors import BadModel, BadRequest

ROLES = ("system", "user", "assistant")
TEMPLATE_CHARS_MAX = 128 * 1024
OUTPUT_CHARS_MAX = 8 * 1024 * 1024
REFUSAL_CHARS_MAX = 300
INT_BITS_MAX = 256
EXTRA_TEXT = re.compile(r"[\w .,:/+-]{0,200}")
"""Further variables select what a template does. They take part in building its
markers, so no text that could be one is let in."""
RESERVED = frozenset(
    (
        *("messages", "bos_token", "eos_token", "add_generation_prompt", "tools", "documents"),
        *("raise_exception", "strftime_now"),
    )
)

Extra = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: its role (one of `ROLES`) and what was said."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a rendered prompt: a control token's text, or text to tokenise as text."""

    text: str
    control: bool = False


class _Refused(jinja2.TemplateError):
    """The template called `raise_exception`."""


class _TooMuch(jinja2.TemplateError):
    """The template asks for a value beyond all reason."""


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what a model is trained on; for us it is only its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own interface

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    # Operators named here are also not folded into constants when compiling.
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        if operator == "**" and not (_is_small(left, 32) and _is_small(right, 8)):
            raise _TooMuch("a power beyond reason")
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                repeats = isinstance(one, (str, list, tuple)) and isinstance(other, int)
                if repeats and len(one) * other > OUTPUT_CHARS_MAX:
                    raise _TooMuch("a repetition beyond reason")
            if not (_is_small(left, INT_BITS_MAX) and _is_small(right, INT_BITS_MAX)):
                raise _TooMuch("a number beyond reason")
        return super().call_binop(context, operator, left, right)


def _is_small(value: Any, bits: int) -> bool:
    return not isinstance(value, int) or value.bit_length() <= bits


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON; Jinja's own filter would escape it for HTML, unlike what models saw."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: object) -> None:
    raise _Refused(str(message)[:REFUSAL_CHARS_MAX])


def _make_environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        optimized=False,
        extensions=["jinja2.ext.loopcontrols", _GenerationTag],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    for name, table in (("lipsum", environment.globals), ("random", environment.filters)):
        del table[name]
    return environment


class ChatTemplate:
    """A compiled template.

    Args:
        source: The template as it stands in the model file.
        bos_token: Text of the token that begins a sequence; empty for none.
        eos_token: Text of the token that ends one; empty for none.
        control_texts: Texts of the vocabulary's control tokens.
    """

    def __init__(
        self, source: str, *, bos_token: str, eos_token: str, control_texts: Sequence[str]
    ) -> None:
        """Compile it.

        Raises:
            BadModel: It is too large or not a template.
        """
        if len(source) > TEMPLATE_CHARS_MAX:
            raise BadModel(
                f"the model's chat template has {len(source)} characters,"
                f" more than {TEMPLATE_CHARS_MAX}"
            )
        self._source, self._bos_token, self._eos_token = source, bos_token, eos_token
        texts = sorted(filter(None, control_texts), key=lambda text: (-len(text), text))
        self._control = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        try:
            self._template = _make_environment().from_string(source)
        except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError) as error:
            raise BadModel(f"the model's chat template is broken: {_said(error)}") from error

    def render(
        self,
        turns: Sequence[Turn],
        *,
        nonce: str,
        now: datetime,
        extra: Mapping[str, Extra] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[Piece]:
        """The prompt of a chat.

        Args:
            turns: The messages, at least one.
            nonce: Unguessable and new for each request: at least 128 random
                bits as lower-case hex digits.
            now: What `strftime_now` shows.
            extra: Further variables of the template, such as `enable_thinking`.
            add_generation_prompt: Whether the prompt ends where an answer begins.

        Raises:
            BadRequest: The template refuses these messages, fails on them, takes
                too much, or cannot keep them apart from its markers.
            BadModel: The template tries to leave its sandbox.
        """
        self._check(turns, nonce, extra or {})
        variables: dict[str, Any] = {
            **(extra or {}),
            "bos_token": self._bos_token,
            "eos_token": self._eos_token,
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
            "strftime_now": now.strftime,
        }
        cores = [turn.content.strip() for turn in turns]
        marked_turns = [
            Turn(turn.role, turn.content.replace(core, f"{nonce}{i}x", 1) if core else turn.content)
            for i, (turn, core) in enumerate(zip(turns, cores, strict=True))
        ]
        true = self._run(turns, variables)
        try:
            marked = self._run(marked_turns, variables)
        except BadRequest:
            raise _cannot_keep_apart("they take part in what the template decides") from None
        # Odd places are the contents' numbers, even ones the template's own text.
        parts = re.split(f"{nonce}([0-9]+)x", marked)
        contents = [cores[int(number)] for number in parts[1::2]]
        joined = "".join(
            text for pair in zip(parts[::2], [*contents, ""], strict=True) for text in pair
        )
        own = _cut(self._control, parts[::2], contents)
        if joined == true:
            return own
        return self._rewritten(true, own, turns)

    def _rewritten(self, true: str, own: list[Piece], turns: Sequence[Turn]) -> list[Piece]:
        """The true rendering of a template that rewrites contents, if it is safe."""
        for turn in turns:
            if found := self._control.search(turn.content):
                raise _cannot_keep_apart(f"one holds the text {found[0]!r}")
        pieces = _cut(self._control, [true], [])
        if [p.text for p in pieces if p.control] != [p.text for p in own if p.control]:
            raise _cannot_keep_apart("they change the prompt's markers")
        return pieces

    def _check(self, turns: Sequence[Turn], nonce: str, extra: Mapping[str, Extra]) -> None:
        if not turns:
            raise BadRequest("there are no messages", param="messages")
        assert re.fullmatch("[0-9a-f]{32,}", nonce), "a nonce is 128 random bits in hex"
        assert nonce not in self._source
        for turn in turns:
            if turn.role not in ROLES:
                raise BadRequest(
                    f"the role {turn.role[:40]!r} is not known",
                    hint=f"use one of {', '.join(ROLES)}",
                    param="messages",
                )
            assert nonce not in turn.content
        for name, value in extra.items():
            if not name.isidentifier() or name.startswith("_") or name in RESERVED:
                raise BadRequest(
                    f"the template variable {name[:40]!r} cannot be set",
                    param="chat_template_kwargs",
                )
            if isinstance(value, str) and (
                not EXTRA_TEXT.fullmatch(value) or self._control.search(value)
            ):
                raise BadRequest(
                    f"the template variable {name[:40]!r} has a value that is not a plain word",
                    param="chat_template_kwargs",
                )

    def _run(self, turns: Sequence[Turn], variables: dict[str, Any]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        out: list[str] = []
        size = 0
        try:
            for text in self._template.generate(messages=messages, **variables):
                size += len(text)
                if size > OUTPUT_CHARS_MAX:
                    raise _TooMuch("a longer text than any model reads")
                out.append(text)
        except _Refused as error:
            raise BadRequest(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except SecurityError as error:
            raise BadModel(
                f"the model's chat template tries to leave its sandbox: {_said(error)}",
                hint="do not use this model file",
            ) from error
        except (_TooMuch, MemoryError, RecursionError) as error:
            raise BadRequest(
                f"the model's chat template asks for too much: {_said(error)}", param="messages"
            ) from error
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            LookupError,
            ArithmeticError,
            AttributeError,
        ) as error:
            raise BadRequest(
                f"the model's chat template fails on these messages: {_said(error)}",
                param="messages",
            ) from error
        return "".join(out)


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:REFUSAL_CHARS_MAX]


def _cannot_keep_apart(why: str) -> BadRequest:
    return BadRequest(
        "the model's chat template rewrites messages, and these cannot be kept apart"
        f" from its control tokens: {why}",
        hint="leave out text that looks like one of the model's markers",
        param="messages",
    )


def _cut(control: re.Pattern[str], own: Sequence[str], contents: Sequence[str]) -> list[Piece]:
    """Cut a prompt at the control tokens in the template's own text.

    Args:
        control: Matches a control token's text.
        own: The template's text before, between and after the contents.
        contents: What users wrote, one less than `own` (or none for a single text).
    """
    pieces: list[Piece] = []
    run: list[str] = []

    def end_run() -> None:
        if text := "".join(run):
            pieces.append(Piece(text))
        run.clear()

    for i, text in enumerate(own):
        at = 0
        for match in control.finditer(text):
            run.append(text[at : match.start()])
            end_run()
            pieces.append(Piece(match[0], control=True))
            at = match.end()
        run.append(text[at:])
        if i < len(contents):
            run.append(contents[i])
    end_run()
    return pieces
