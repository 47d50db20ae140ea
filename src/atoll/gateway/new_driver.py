"""A ring's driver, made for its first plan."""

from __future__ import annotations

from collections.abc import Callable

from atoll.domain.control import Plan
from atoll.domain.errors import AtollError
from atoll.domain.wire import I8_BLOCKS
from atoll.engine.ends_client import EndsProcess
from atoll.gateway.casting import Cast
from atoll.gateway.ground import Ground
from atoll.gateway.parking import EndsParking, parking_of
from atoll.gateway.ring_driver import RingDriver
from atoll.gateway.ring_plan import coordinator_config
from atoll.gateway.wire_choice import choose_encoding
from atoll.ring.coordinator import Coordinator
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import DraftItem


def encoding_for(ground: Ground, cast: Cast, ring: str) -> str:
    """How rows of a ring travel, exact sessions apart."""
    joins = [member.join for member in cast.members]
    encoding = choose_encoding(ground.options, joins, cast.report)
    if ground.options.wire == "int8" and encoding != I8_BLOCKS:
        ground.tell(f"{ring} has a node of an older version: no int8 on the wire")
    return encoding


def config_for(
    ground: Ground, plan: Plan, cast: Cast, encoding: str, *, has_drafts: bool
) -> CoordinatorConfig:
    """The coordinator's limits for a ring."""
    members, share_bytes = cast.members, ground.fleet.memory.share_bytes
    return coordinator_config(
        *(members, ground.options),
        encoding=encoding,
        draft_model=has_drafts,
        foretold=cast.report,
        parking=parking_of(ground.manifest, plan, ground.options, members, share_bytes),
    )


def new_driver(
    ground: Ground,
    plan: Plan,
    ends: EndsProcess,
    number: int,
    *,
    config: CoordinatorConfig,
    draft: Callable[[tuple[DraftItem, ...]], None],
    fail: Callable[[AtollError], None],
) -> RingDriver:
    """The driver of a ring.

    Args:
        ground: What it stands on.
        plan: Its first plan.
        ends: Its ends process.
        number: The ring's number.
        config: The coordinator's limits.
        draft: Has the draft model guess.
        fail: Called when a link broke.
    """
    options, own = ground.options, ground.fleet.memory.own
    folder = options.keeping.folder
    return RingDriver(
        plan,
        Coordinator(config, ground.lookups),
        *(ground.identity, ends),
        EndsParking(plan, options, number, ends, own),
        record=folder / f"sent-{number}" if folder else None,
        draft=draft,
        fail=fail,
    )
