"""From chat or text to token ids, with the model's own vocabulary and template."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from atoll.domain.errors import BadRequest
from atoll.engine.chat_template import ChatTemplate, Extra, Piece, Turn
from atoll.engine.llama import Model
from atoll.engine.vocabulary import (
    CONTROL,
    NO_TOKEN,
    STRIPS_LEFT,
    STRIPS_RIGHT,
    USER_DEFINED,
    Vocabulary,
)

MARKER_LIKE = re.compile(r"<[|｜].+[|｜]>|</?\w+_of_\w+>|\[/?INST\]")  # noqa: RUF001 - DeepSeek's
"""Some files have their markers as "user defined" tokens, which llama.cpp finds
in any text. Those that look like markers are treated as control tokens."""
C_SPACE = " \t\n\v\f\r"


class PromptMaker:
    """Tokenises chats and texts for one model.

    Args:
        path: The model file; only its vocabulary is loaded.
    """

    def __init__(self, path: Path) -> None:
        """Load the vocabulary; the template is compiled when it is first used.

        Raises:
            BadModel: The engine refuses the file.
        """
        self._model = Model(path, vocab_only=True)
        self._vocabulary = vocabulary = Vocabulary(self._model)
        self.n_vocab = vocabulary.n_tokens
        self._control: dict[str, int] = {}
        self._found_anywhere: set[str] = set()
        for token in range(vocabulary.n_tokens):
            kind = vocabulary.attributes(token)
            if kind & (CONTROL | USER_DEFINED) and (text := vocabulary.text_of(token)):
                if kind & CONTROL:
                    self._control[text] = token
                elif MARKER_LIKE.fullmatch(text):
                    self._control[text] = token
                    self._found_anywhere.add(text)
        self._spoil = re.compile("|".join(map(re.escape, self._found_anywhere)) or r"(?!)")
        self._source = _template_of(self._model)
        self._template: ChatTemplate | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary."""
        return self._vocabulary

    @property
    def has_template(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._source)

    def chat(
        self,
        turns: Sequence[Turn],
        *,
        nonce: str,
        now: datetime.datetime,
        extra: Mapping[str, Extra],
    ) -> list[int]:
        """Token ids of a chat, ready for an answer.

        Args:
            turns: The messages.
            nonce: See `ChatTemplate.render`.
            now: What a template shows as the time.
            extra: Further variables of the template.

        Raises:
            BadRequest: There is no template, or it refuses or cannot render these.
            BadModel: The template is broken or tries to leave its sandbox.
        """
        if not self._source:
            raise BadRequest(
                "the model has no chat template",
                hint="use a model tuned for chat, or /v1/completions",
                param="messages",
            )
        if self._template is None:
            vocabulary = self._vocabulary
            self._template = ChatTemplate(
                self._source,
                bos_token=vocabulary.text_of(vocabulary.bos),
                eos_token=vocabulary.text_of(vocabulary.eos),
                control_texts=list(self._control),
            )
        pieces = self._template.render(turns, nonce=nonce, now=now, extra=extra)
        return self._with_bos(self._tokens_of(pieces))

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text; no control token is found in it."""
        return self._with_bos(self._tokens_of([Piece(text)]))

    def _with_bos(self, ids: list[int]) -> list[int]:
        """Begin the sequence where the model wants it and the template did not."""
        vocabulary = self._vocabulary
        if vocabulary.adds_bos and vocabulary.bos != NO_TOKEN and ids[:1] != [vocabulary.bos]:
            return [vocabulary.bos, *ids]
        return ids

    def _tokens_of(self, pieces: Iterable[Piece]) -> list[int]:
        """Control tokens as they are, each text between them tokenised for itself.

        llama.cpp cuts a prompt in the same way before it tokenises the rest, so a
        chat without markers in its messages gives exactly the tokens that it
        would give (`llama_vocab::impl::tokenizer_st_partition`).
        """
        ids: list[int] = []
        kind = 0
        waiting = ""
        for piece in pieces:
            if not piece.control:
                waiting = piece.text.lstrip(C_SPACE) if kind & STRIPS_RIGHT else piece.text
                continue
            token = self._control[piece.text]
            kind = self._vocabulary.attributes(token)
            ids += self._plain(waiting.rstrip(C_SPACE) if kind & STRIPS_LEFT else waiting)
            ids.append(token)
            waiting = ""
        return ids + self._plain(waiting)

    def _plain(self, text: str) -> list[int]:
        """Tokenise text; a marker that llama.cpp would find in any text is cut in two."""
        ids: list[int] = []
        at = 0
        while at < len(text):
            found = self._spoil.search(text, at)
            end = found.start() + 1 if found else len(text)
            ids += self._vocabulary.tokens(text[at:end], add_special=False, parse_special=False)
            at = end
        return ids

    def close(self) -> None:
        """Free the vocabulary."""
        self._model.close()


def _template_of(model: Model) -> str:
    """The chat template in the model file; empty for none."""
    ffi, lib = model.library.ffi, model.library.lib
    text = lib.llama_model_chat_template(model.pointer, ffi.NULL)
    return "" if text == ffi.NULL else str(ffi.string(text).decode(errors="replace"))
