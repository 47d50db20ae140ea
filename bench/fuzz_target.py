"""What is fuzzed: a reader, with inputs for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from bench.fuzz_making import havoc


@dataclass(frozen=True)
class Target:
    """A reader: `read` takes an input, and raises nothing but `known`.

    `seeds` are sound inputs, `make` a mostly sound one. Of all inputs `share` parts go here.
    """

    name: str
    read: Callable[[bytes], object]
    known: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    make: Callable[[Random], bytes]
    share: int = 4

    def input(self, rng: Random) -> bytes:
        """The next input that is not guided."""
        if rng.random() < 0.6:
            made = self.make(rng)
            return made if rng.random() < 0.7 else havoc(made, rng, self.seeds)
        return havoc(rng.choice(self.seeds), rng, self.seeds)
