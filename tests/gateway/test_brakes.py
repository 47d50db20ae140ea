"""A session is paused while its client does not keep up, and given up after a while."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from atoll.domain.errors import SlowReader
from atoll.domain.generation import Sampled
from atoll.domain.ids import SessionId
from atoll.gateway.brakes import Brakes
from atoll.gateway.mailbox import Mailbox

SESSION = SessionId(7)
WORD = Sampled(1, b"word")


@dataclass
class Driver:
    """Puts tokens as a ring does; notes what it is told."""

    told: list[tuple[SessionId, bool]] = field(default_factory=list)
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    mailbox: Mailbox = field(default_factory=Mailbox)

    def brakes(self, held_s_max: float = 60.0) -> Brakes:
        return Brakes(
            lambda session, held: self.told.append((session, held)),
            lambda _session: self.given_up.set(),
            unread_max=4,
            held_s_max=held_s_max,
        )

    def put(self, brakes: Brakes, n: int) -> None:
        for _ in range(n):
            self.mailbox.put(WORD)
            brakes.filled(SESSION, self.mailbox)


async def test_who_keeps_up_is_left_alone() -> None:
    driver = Driver()
    brakes = driver.brakes()
    for _ in range(50):
        driver.put(brakes, 3)
        for _ in range(3):
            await driver.mailbox.get()
    await asyncio.sleep(0)
    assert (driver.told, brakes.held) == ([], 0)


async def test_who_does_not_is_paused_until_half_is_read() -> None:
    driver = Driver()
    brakes = driver.brakes()
    driver.put(brakes, 6)
    # The driver is told when it has done what it was at.
    assert (driver.told, brakes.held) == ([], 1)
    await asyncio.sleep(0)
    assert driver.told == [(SESSION, True)]
    for _ in range(3):
        await driver.mailbox.get()
    assert driver.told == [(SESSION, True)]
    await driver.mailbox.get()
    assert driver.told == [(SESSION, True), (SESSION, False)]
    assert brakes.held == 0
    await driver.mailbox.get()
    driver.put(brakes, 4)
    await asyncio.sleep(0)
    assert driver.told[2:] == [(SESSION, True)]


async def test_who_reads_nothing_for_too_long_is_given_up() -> None:
    driver = Driver()
    brakes = driver.brakes(held_s_max=0.05)
    driver.put(brakes, 4)
    async with asyncio.timeout(10):
        await driver.given_up.wait()
    assert brakes.held == 0
    # What it had been given it still gets, and then why there is no more.
    assert [await driver.mailbox.get() for _ in range(4)] == [WORD] * 4
    with pytest.raises(SlowReader, match="4 tokens behind"):
        await driver.mailbox.get()


async def test_the_end_of_a_session_ends_its_pause() -> None:
    driver = Driver()
    brakes = driver.brakes(held_s_max=0.05)
    driver.put(brakes, 4)
    brakes.over(SESSION)
    await asyncio.sleep(0.1)
    assert (driver.told, driver.given_up.is_set()) == ([], False)
    driver.put(brakes, 1)
    await asyncio.sleep(0)
    brakes.close()
    for _ in range(5):
        await driver.mailbox.get()
    await asyncio.sleep(0.1)
    assert (driver.told, driver.given_up.is_set()) == ([(SESSION, True)], False)
