"""The vocabulary of a loaded model: text to token ids, token ids to bytes."""

from __future__ import annotations

from typing import Any

from atoll.domain.errors import EngineFault
from atoll.engine.llama import Model

PIECE_BYTES = 256
NO_TOKEN = -1

CONTROL, USER_DEFINED = 1 << 3, 1 << 4
STRIPS_LEFT, STRIPS_RIGHT = 1 << 7, 1 << 8
"""Bits of `Vocabulary.attributes`."""


class Vocabulary:
    """Token ids and bytes; lives as long as its model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ffi, self._lib = model.library.ffi, model.library.lib
        self._pointer: Any = self._lib.llama_model_get_vocab(model.pointer)
        self.n_tokens: int = self._lib.llama_vocab_n_tokens(self._pointer)
        self.bos: int = self._lib.llama_vocab_bos(self._pointer)
        self.eos: int = self._lib.llama_vocab_eos(self._pointer)
        self.adds_bos: bool = self._lib.llama_vocab_get_add_bos(self._pointer)
        self._pieces: dict[int, bytes] = {}

    def tokens(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of `text`.

        Args:
            text: Any text.
            add_special: Put the beginning-of-sequence token in front where the model wants it.
            parse_special: Read texts of control tokens as these tokens. Never
                for text that a user wrote.
        """
        data = text.encode()
        room = len(data) + 2
        while True:
            out = self._ffi.new("llama_token[]", room)
            n = self._lib.llama_tokenize(
                self._pointer, data, len(data), out, room, add_special, parse_special
            )
            if 0 <= n <= room:
                return list(self._ffi.unpack(out, n)) if n else []
            if -n <= room:
                raise EngineFault("the tokeniser failed on the text")
            room = -n

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Bytes of a token, perhaps part of a character; control tokens are empty
        unless `special`.

        Raises:
            ValueError: The id is outside the vocabulary.
        """
        if not 0 <= token < self.n_tokens:
            raise ValueError(f"token id {token} is outside the vocabulary of {self.n_tokens}")
        if not special and (known := self._pieces.get(token)) is not None:
            return known
        size = PIECE_BYTES
        while True:
            buffer = self._ffi.new("char[]", size)
            n = self._lib.llama_token_to_piece(self._pointer, token, buffer, size, 0, special)
            if n >= 0:
                break
            size = -n
        piece = bytes(self._ffi.buffer(buffer, n))
        if not special:
            self._pieces[token] = piece
        return piece

    def text_of(self, token: int) -> str:
        """The token as it stands in the vocabulary ("<|im_end|>"); empty for none."""
        if token == NO_TOKEN:
            return ""
        text = self._lib.llama_vocab_get_text(self._pointer, token)
        return str(self._ffi.string(text).decode(errors="replace"))

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation."""
        return bool(self._lib.llama_vocab_is_eog(self._pointer, token))

    def is_control(self, token: int) -> bool:
        """Whether the token is a control token."""
        return bool(self._lib.llama_vocab_is_control(self._pointer, token))

    def attributes(self, token: int) -> int:
        """Bits of a token's kind, such as `CONTROL` (llama.h, enum llama_token_attr)."""
        return int(self._lib.llama_vocab_get_attr(self._pointer, token))
