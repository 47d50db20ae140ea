"""A request on its way through systems."""

from __future__ import annotations

from atoll.sim.serving.requests import Request


class Stream:
    """A request on its way; `prompt` positions are to be computed, of which `computed` are; of
    one that decodes, `computed` is what its caches will hold.

    `left` tokens are to come, and `made` have. `first_s` is when the first came, or will;
    negative: it has not. `way_s` is what tokens take to the user, `copy_s` what kept caches
    took to be copied, `losses` how often its system was lost. `room` is what its caches are
    to take, `finish` the step with which it ends, 0: it does not decode.
    """

    __slots__ = (
        *("asked_s", "blocks", "computed", "copy_s", "finish", "first_s", "left", "made"),
        *("losses", "prompt", "request", "room", "way_s"),
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        self.asked_s = request.at_s
        self.prompt = request.prompt
        self.blocks = request.blocks
        self.computed = 0.0
        self.left = request.answer
        self.made = 0
        self.first_s = -1.0
        self.way_s = self.copy_s = 0.0
        self.room = 0.0
        self.losses = 0
        self.finish = 0.0

    def begin_again(self) -> None:
        """Its caches are lost: what was asked and answered is a prompt."""
        self.prompt = self.request.prompt + self.made
        self.computed = 0.0
        self.losses += 1
