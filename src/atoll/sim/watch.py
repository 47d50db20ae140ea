"""Watch: what must hold after every event of a simulated ring, and when it is quiet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.ring import coordinator_messages as gate
from atoll.ring import parking_messages as parking
from atoll.ring.coordinator import Coordinator
from atoll.ring.stage import Stage
from atoll.sim.fake_ends import FakeEnds
from atoll.sim.fake_model import expected_output
from atoll.sim.scenario import Scenario
from atoll.sim.traffic import BrokenInvariant, require


class Watch:
    """The run's observer: it sees every event and effect and trusts no machine."""

    def __init__(self, scenario: Scenario, coordinator: Coordinator, ends: FakeEnds) -> None:
        self._scenario = scenario
        self._coordinator = coordinator
        self._ends = ends
        self._requests: dict[SessionId, GenerateRequest] = {}
        self._expected: dict[SessionId, tuple[Sampled, ...]] = {}
        self._emitted: Counter[SessionId] = Counter()
        self._admitted: set[SessionId] = set()
        self._excused: set[SessionId] = set()
        self._tainted: set[SessionId] = set()
        self._event: gate.CoordinatorEvent | None = None
        self._full = self._chunks_ran = False
        self._down = True
        self.ends: dict[SessionId, str] = {}
        self.tokens = self.cached = self.resumed = 0
        # The numbers that stages know sessions by.
        self._tenants: dict[SessionId, SessionId] = {}
        self._held: tuple[Epoch | None, dict[Slot, SessionId]] = (None, {})
        self._prompts: dict[SessionId, int] = {}
        """Lengths of their prompts, by these."""

    # What may excuse the end of a session

    def event(self, event: gate.CoordinatorEvent) -> None:
        """The coordinator is about to take `event`."""
        self._event = event
        self._down = self._coordinator.epoch is None
        config = self._scenario.coordinator
        waits, runs = self._coordinator.waiting, self._coordinator.active
        self._full = waits >= config.waiting_max and (runs == config.n_slots or self._down)
        if isinstance(event, gate.Submit):
            self._requests[event.session] = event.request

    def engine_failed(self, session: SessionId) -> None:
        """A computation of the session was made to fail."""
        self._excused.add(session)

    def tainted(self, session: SessionId) -> None:
        """A hostile frame named the session."""
        self._tainted.add(session)

    def at_ends(self, work: gate.RunEnds) -> None:
        """Check that prompts which enter leave room for those who decode.

        Raises:
            BrokenInvariant: They do not.
        """
        gateway, config = self._coordinator, self._scenario.coordinator
        entering = [item for item in work.items if self._is_prompt(item)]
        chunks = [item for item in entering if isinstance(item, gate.HeadItem)]
        if chunks and gateway.decoding and config.beside_rows:
            most = min(config.chunk_rows, config.beside_rows)
            rows = max(len(item.tokens) for item in chunks)
            require(rows <= most, f"a chunk of {rows} rows beside others' decoding")
            on_way, lanes = gateway.prefill.on_way, gateway.departures.lanes_max
            require(on_way <= lanes * most, f"{on_way} rows of prompts in front of others")
        # Whoever waits for a next token waits for one batch with chunks at most.
        if self._chunks_ran and len(entering) == len(work.items):
            require(not gateway.returns.decode_waits, "chunks twice before somebody's next token")
        self._chunks_ran = bool(entering)

    def _is_prompt(self, item: gate.EndsItem) -> bool:
        return item.keep < self._prompts[item.session]

    # What clients are told

    def told(self, effect: gate.CoordinatorEffect) -> None:
        """Check what the coordinator tells a session's client."""
        match effect:
            case gate.Admitted(session, cached, tenant):
                self._tenants[session] = tenant or session
                self._prompts[tenant or session] = len(self._requests[session].prompt)
                require(session not in self._admitted, f"session {session} is admitted twice")
                self.cached += cached
                self._admitted.add(session)
            case parking.Reused(session, cached):
                require(self._emitted[session] == 0, f"session {session} reuses late")
                self.cached += cached
                self.resumed += 1
            case gate.Emit(session, sampled):
                self._token(session, sampled)
            case gate.Finished(session, usage):
                self._end(session, "finished", usage)
                count, due = self._emitted[session], len(self._expect(session))
                require(count == due, f"session {session} ended after {count} of {due} tokens")
            case gate.Failed(session, code, problem, usage):
                self._end(session, code, usage)
                allowed = self._may_fail(session, code)
                require(allowed, f"session {session} failed: {code}: {problem}")
            case gate.Rejected(session, code, problem):
                self._end(session, code, None)
                allowed = self._may_be_rejected(session, code)
                require(allowed, f"session {session} was rejected: {code}: {problem}")
            case _:
                raise BrokenInvariant(f"nobody performs {effect}")

    def _token(self, session: SessionId, sampled: Sampled) -> None:
        require(session in self._admitted, f"session {session} was not admitted")
        require(session not in self.ends, f"session {session} goes on after its end")
        expected, at = self._expect(session), self._emitted[session]
        due = expected[at] if at < len(expected) else None
        require(sampled == due, f"session {session}, token {at}: {sampled}, not {due}")
        self._emitted[session] += 1
        self.tokens += 1

    def _expect(self, session: SessionId) -> tuple[Sampled, ...]:
        if session not in self._expected:
            scenario = self._scenario
            self._expected[session] = expected_output(
                self._requests[session], scenario.n_layers, scenario.coordinator.context
            )
        return self._expected[session]

    def _end(self, session: SessionId, how: str, usage: gate.Usage | None) -> None:
        before = self.ends.get(session)
        require(before is None, f"session {session} ended twice: {before}, {how}")
        self.ends[session] = how
        if usage is None:
            require(session not in self._admitted, f"session {session} was rejected late")
            return
        require(session in self._admitted, f"session {session} was not admitted")
        due = gate.Usage(len(self._requests[session].prompt), self._emitted[session])
        require(usage == due, f"session {session} used {due}, not {usage}")

    def _may_fail(self, session: SessionId, code: str) -> bool:
        match code:
            case "cancelled":
                event = self._event
                return isinstance(event, gate.CancelSession) and event.session == session
            case "ring_down":
                return isinstance(self._event, gate.RingDown | gate.RingUp)
            case "engine":
                return self._tenants[session] in self._excused
            case _:
                return self._tenants[session] in self._tainted

    def _may_be_rejected(self, session: SessionId, code: str) -> bool:
        match code:
            case "cancelled":
                event = self._event
                return isinstance(event, gate.CancelSession) and event.session == session
            case "ring_down":
                return self._down or isinstance(self._event, gate.RingDown | gate.RingUp)
            case "overloaded":
                return self._full
            case "too_long":
                return len(self._requests[session].prompt) > self._scenario.coordinator.context
            case _:
                return False

    # After every event

    def check(self, stages: Sequence[Stage | None]) -> None:
        """Check what must hold at any time.

        Raises:
            BrokenInvariant: Something does not.
        """
        self.check_gateway()
        self.check_holders(stages, range(len(stages)))

    def check_gateway(self) -> bool:
        """Check the gateway's own bounds, as `check`; whether others hold its slots now."""
        gateway, config = self._coordinator, self._scenario.coordinator
        holders = gateway.holders()
        n_held = gateway.active + gateway.resting
        require(len(holders) == n_held <= config.n_slots, "two sessions hold a slot")
        require(gateway.waiting <= config.waiting_max, "too many sessions wait")
        most = max(config.lanes, config.n_slots)
        require(gateway.departures.lanes <= most, "too many lanes are taken")
        ready_max = config.n_slots + config.credits
        require(gateway.departures.waiting <= ready_max, "too many windows are ready")
        held, self._held = self._held, (gateway.epoch, holders)
        return held != self._held

    def check_holders(self, stages: Sequence[Stage | None], touched: Iterable[int]) -> None:
        """Check that the stages touched serve whom the gateway serves, as `check`."""
        epoch, holders = self._held
        for at in touched:
            stage = stages[at]
            if stage is not None and stage.epoch == epoch:
                held = stage.holders()
                strays = {slot: x for slot, x in held.items() if holders.get(slot) != x}
                if strays:
                    raise BrokenInvariant(f"stage {at} holds {strays}, the gateway {holders}")

    def check_settled(self) -> None:
        """Check what must hold when nothing is left to happen: nothing is held.

        Raises:
            BrokenInvariant: A session without an end, or something leaked.
        """
        missing = self._requests.keys() - self.ends.keys()
        require(not missing, f"sessions {sorted(missing)} never end")
        gateway = self._coordinator
        held = (gateway.active, gateway.resting, gateway.waiting, gateway.departures.waiting)
        require(held == (0, 0, 0, 0), f"the gateway holds {held}")
        kept = (gateway.lot.parked, len(self._ends.parcels))
        require(kept == (0, 0), f"parcels are left: {kept}")
        require(gateway.departures.lanes == 0, "a lane is taken")
        require(gateway.returns.waiting == 0, "a returned window waits")
        require(self._ends.slots_held == 0, "the ends hold a slot")
