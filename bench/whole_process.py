"""The whole model in a process of its own, driven line by line over pipes.

Run as `python -m bench.whole_process MODEL THREADS SLOTS CONTEXT`; reads one
JSON request a line and answers with one JSON line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from atoll.engine.whole import WholeModel


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave."""

    tokens: list[list[int]]
    texts: list[list[str]]
    prefill_s: float
    decode_s: float
    steps: int


class WholeProcess:
    """The parent's handle."""

    def __init__(self, model: Path, *, threads: int, slots: int, context: int) -> None:
        self.threads = threads
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.whole_process"),
                *(str(model), str(threads), str(slots), str(context)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> WholeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text; `special`: with those of control tokens where it names them."""
        found: list[int] = self._ask({"text": text, "special": special})["tokens"]
        return found

    def greedy(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, *, exact: bool, stop: bool
    ) -> Run:
        """The likeliest continuations; see `WholeModel.greedy`."""
        request = {"prompts": prompts, "max_tokens": max_tokens, "exact": exact, "stop": stop}
        return Run(**self._ask(request))


def main() -> None:
    """Answer requests until standard input ends."""
    path, threads, slots, context = sys.argv[1:]
    whole = WholeModel(Path(path), n_slots=int(slots), context=int(context), threads=int(threads))
    out = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "text" in request:
            tokens = whole.vocabulary.tokens(
                request["text"], add_special=True, parse_special=request["special"]
            )
            answer: dict[str, Any] = {"tokens": tokens}
        else:
            run = whole.greedy(
                request["prompts"],
                request["max_tokens"],
                exact=request["exact"],
                stop_at_end=request["stop"],
            )
            answer = {
                "tokens": run.tokens,
                "texts": [
                    [whole.vocabulary.piece(t).decode(errors="replace") for t in tokens]
                    for tokens in run.tokens
                ],
                "prefill_s": run.prefill_s,
                "decode_s": run.decode_s,
                "steps": run.steps,
            }
        out.write(json.dumps(answer) + "\n")
        out.flush()
    whole.close()


if __name__ == "__main__":
    main()
