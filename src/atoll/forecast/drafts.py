"""What drafts are worth: tokens that one pass of the model gives a stream.

With `k` guesses, each right with chance `a` whatever came before, a pass gives

    (1 - a^(k + 1)) / (1 - a)

tokens: the guesses up to the first wrong one, and one of the model's own. It computes k + 1
rows. Leviathan et al., arXiv:2211.17192, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.domain.errors import BadRequest

DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Drafts:
    """Guesses of a pass, and how often one is right (0 to 1). A guess takes `guess_s`."""

    depth: int = 0
    right: float = 0.0
    guess_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= DEPTH_MAX:
            raise BadRequest(f"{self.depth} guesses at a time: 0 to {DEPTH_MAX} can be")
        if not 0 <= self.right < 1:
            raise BadRequest(
                f"guesses are right with a chance of 0 to 1, not {self.right}",
                hint="write 0.7 for seven in ten",
            )

    @property
    def rows(self) -> int:
        """That a pass computes for a stream."""
        return self.depth + 1

    @property
    def tokens(self) -> float:
        """That a pass gives a stream, on average."""
        return float((1 - self.right**self.rows) / (1 - self.right))
