"""A plan as it comes from the gateway: taken only with its signature, and only a newer one."""

from __future__ import annotations

import msgspec

from atoll.domain.control import Plan, PlanNotice, StagePlan, StandBy, plan_signed_part
from atoll.domain.errors import ProtocolFault
from atoll.domain.ids import Epoch, NodeId
from atoll.net.identity import verify


def checked_plan(notice: PlanNotice, gateway: NodeId, newest: Epoch | None) -> Plan:
    """The plan, if the gateway that was pinned signed it and it is newer than the last.

    Args:
        notice: As it came.
        gateway: The key that was pinned at join.
        newest: Epoch of the last plan; None: there was none.

    Raises:
        ProtocolFault: It is not to be followed.
    """
    if not verify(gateway, notice.signature, plan_signed_part(notice.plan)):
        raise ProtocolFault("a plan came without the gateway's signature")
    try:
        plan = msgspec.msgpack.decode(notice.plan, type=Plan)
    except (ValueError, RecursionError) as error:
        raise ProtocolFault(f"a plan cannot be read: {error}") from error
    if newest is not None and plan.epoch <= newest:
        raise ProtocolFault(f"the plan's epoch {plan.epoch} is not above {newest}")
    if plan.gateway != gateway:
        raise ProtocolFault("the plan names another gateway")
    return plan


def checked_stand_by(order: StandBy, gateway: NodeId) -> tuple[Plan, tuple[StagePlan, ...]]:
    """The plan, and the stages of it that are to be loaded.

    Raises:
        ProtocolFault: The gateway did not sign it, or it has no such stages.
    """
    plan = checked_plan(order.notice, gateway, None)
    if any(not 0 <= place < len(plan.stages) for place in order.stages):
        raise ProtocolFault("a plan has fewer stages than this node is to stand by for")
    return plan, tuple(plan.stages[place] for place in order.stages)
