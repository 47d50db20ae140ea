"""One token round a ring whose machines are far apart, beside llama.cpp's RPC over the same delay.

Three stage nodes and a gateway as separate processes, SmolLM2, prompts of three kinds
(`far_prompts`), each link as long as `delays` makes it; the peer has three servers, with
the threads and waits that suit it best. All take turns in one run on the same cores; only
ratios count. What the product does not have gives null.

Beside the figures stand the limits that no ring can pass: what the whole model computes in
one process, and that with a loop round the ring for as many tokens as one loop brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.engine.threads import usable_cores
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench import draft_model, sampling
from bench.build_peers import built_peers
from bench.far_contest import Contest, Lengths, side_of, talk
from bench.far_measures import CROWD, PATH, Side, one_stream, sixteen_streams, total
from bench.far_prompts import KINDS, Deck
from bench.far_report import report
from bench.far_ring import (
    DRAFT,
    NONE,
    FarRing,
    RingShape,
    known_modes,
    mode_options,
    open_far_ring,
)
from bench.llama_rpc import Peer, PeerSetting, open_peer, peer_settings
from bench.local import DEMO_SOURCE, best_whole
from bench.stream import stream_all
from bench.whole_process import WholeProcess

DELAYS_MS = (0, 5, 20, 50)
STREAMS = sum(CROWD.values())
CONTEXT = 2560
LENGTHS, LENGTHS_QUICK = Lengths(), Lengths(12, 6, 48, 256, 400)
TRY_TOKENS = Lengths(one=16, sixteen=8)
TRIES = 2
"""Noise only slows, so the best of a few short runs tells settings apart."""
LIMIT_S = 3000
Threads = dict[tuple[bool, bool], int]
"""Worker threads by whether there is a delay and whether streams are many."""


async def _best_threads(
    model: FoundModel, store: Store, folder: Path, whole: WholeProcess, far_ms: int
) -> tuple[Threads, dict[str, dict[int, float]]]:
    """Worker threads of each stage with which a ring decodes fastest, and all that was tried.

    Without delay (False) and with some (True), as who waits long for the next token has to
    wake more of them; for a lone stream (False) and for sixteen (True).
    """
    found: dict[tuple[bool, bool], dict[int, float]] = {
        (far, many): {} for far in (False, True) for many in (False, True)
    }
    for threads in range(1, usable_cores() + 1):
        own = folder / f"threads-{threads}"
        own.mkdir()
        shape = RingShape(STREAMS, CONTEXT, threads)
        async with open_far_ring(model, store, own, shape, mode_options(NONE, None)) as ring:
            for far, tries in ((False, TRIES), (True, 1)):
                await ring.set_delay(far_ms / 1000 if far else 0.0)
                found[far, False][threads] = await _try_one(side_of(ring), whole, tries)
                found[far, True][threads] = await _try_sixteen(side_of(ring), whole)
    told = {
        f"{'sixteen' if many else 'one'}_{far_ms if far else 0}": rates
        for (far, many), rates in found.items()
    }
    talk(f"ring, tokens/s by threads: {told}")
    return {key: max(rates, key=rates.__getitem__) for key, rates in found.items()}, told


async def _try_one(side: Side, whole: WholeProcess, tries: int = TRIES) -> float:
    deck, speeds = Deck.fresh(), []
    for _ in range(tries):
        prompts = {kind: whole.tokens(deck.deal(kind, 1)[0], special=True) for kind in KINDS}
        rates = await one_stream(side, prompts, TRY_TOKENS.one, 0.0)
        speeds.append(total(rates.values()).per_s)
    return round(max(speeds), 1)


async def _try_sixteen(side: Side, whole: WholeProcess) -> float:
    deck = Deck.fresh()
    crowd = {k: [whole.tokens(p, special=True) for p in deck.deal(k, n)] for k, n in CROWD.items()}
    return round((await sixteen_streams(side, crowd, TRY_TOKENS.sixteen)).per_s, 1)


@dataclass(frozen=True, slots=True)
class _Peers:
    """How peers are made."""

    binaries: Path
    model: Path
    folder: Path

    def open(
        self, setting: PeerSetting, name: str, *, far: bool
    ) -> AbstractAsyncContextManager[Peer]:
        """One that is at rest."""
        log = self.folder / f"{name}.log"
        return open_peer(
            *(self.binaries, self.model, setting),
            log=log,
            streams=STREAMS,
            context=CONTEXT,
            far=far,
        )

    async def best(
        self, whole: WholeProcess, far_ms: int
    ) -> tuple[tuple[PeerSetting, PeerSetting], dict[str, list[float]]]:
        """The best settings at a delay, for a lone stream and for sixteen."""
        one: dict[PeerSetting, float] = {}
        many: dict[PeerSetting, float] = {}
        for number, setting in enumerate(peer_settings()):
            async with self.open(setting, f"try-{far_ms}-{number}", far=far_ms > 0) as peer:
                if far_ms:
                    await peer.set_delay(far_ms / 1000)
                with peer.awake() as endpoint:
                    side = Side(endpoint, "peer", {"cache_prompt": False})
                    await stream_all(endpoint, PATH, [side.ask([1, 2, 3], 4)])
                    one[setting] = await _try_one(side, whole, 1 if far_ms else TRIES)
                    many[setting] = await _try_sixteen(side, whole)
            said = f"one {one[setting]}, sixteen {many[setting]} tokens/s"
            talk(f"llama.cpp RPC at {far_ms} ms, {setting}: {said}")
        best = max(one, key=lambda s: one[s]), max(many, key=lambda s: many[s])
        return best, {str(setting): [one[setting], many[setting]] for setting in one}

    async def open_all(
        self,
        stack: contextlib.AsyncExitStack,
        chosen: dict[bool, tuple[PeerSetting, PeerSetting]],
    ) -> dict[bool, tuple[Peer, Peer]]:
        """Peers for no delay and for some, each for a lone stream and for sixteen."""
        peers = {}
        for far, settings in chosen.items():
            made: dict[PeerSetting, Peer] = {}
            for setting in set(settings):
                name = f"peer-{'far' if far else 'near'}-{len(made)}"
                made[setting] = await stack.enter_async_context(self.open(setting, name, far=far))
            peers[far] = (made[settings[0]], made[settings[1]])
        return peers


async def _all(
    model: FoundModel, store: Store, folder: Path, *, rounds: int, delays_ms: list[int], quick: bool
) -> dict[str, Any]:
    began_s, load = time.monotonic(), [round(os.getloadavg()[0], 1)]
    binaries = built_peers()
    if binaries is None:
        talk("llama.cpp's RPC is not here: make bench-peers. What is held against it is null.")
    settings: dict[str, Any] = {"modes": known_modes()}
    # Settings are tried without delay, and at one in the middle.
    tried_ms = {ms > 0: ms for ms in (delays_ms[0], delays_ms[len(delays_ms) // 2])}
    whole_threads = usable_cores() if quick else best_whole(model.path)
    settings["whole_threads"] = whole_threads
    async with contextlib.AsyncExitStack() as stack:
        whole = stack.enter_context(
            WholeProcess(model.path, threads=whole_threads, slots=1, context=CONTEXT)
        )
        threads: Threads = {(far, many): 1 for far in (False, True) for many in (False, True)}
        if not quick:
            threads, settings["ring_tried"] = await _best_threads(
                model, store, folder, whole, delays_ms[len(delays_ms) // 2]
            )
        settings["ring_threads"] = {
            f"{'sixteen' if many else 'one'}_{'far' if far else 'near'}": n
            for (far, many), n in threads.items()
        }
        peers: dict[bool, tuple[Peer, Peer]] = {}
        if binaries is not None:
            maker = _Peers(binaries, model.path, folder)
            chosen = dict.fromkeys(tried_ms, (PeerSetting(1, "short"),) * 2)
            for far, ms in () if quick else tried_ms.items():
                chosen[far], settings[f"peer_tried_{ms}"] = await maker.best(whole, ms)
            settings["peer"] = {
                "far" if far else "near": {"one": str(one), "sixteen": str(many)}
                for far, (one, many) in chosen.items()
            }
            peers = await maker.open_all(stack, chosen)
        rings = await _open_rings(stack, model, store, folder, threads)
        contest = Contest(whole, rings, peers, LENGTHS_QUICK if quick else LENGTHS)
        talk(f"settings: {settings}; set up in {time.monotonic() - began_s:.0f} s")
        for number in range(rounds):
            await contest.round(number, delays_ms)
            talk(f"round {number + 1} of {rounds} after {time.monotonic() - began_s:.0f} s")
    load.append(round(os.getloadavg()[0], 1))
    found = report(contest.found, list(rings), delays_ms, STREAMS)
    sampled = await asyncio.to_thread(sampling.check, model, Store(folder / "sampling"))
    return found | {
        "sampling_p_value": sampled["sampling_p_value"],
        "settings": settings,
        "rounds": rounds,
        "load_average": load,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
    }


async def _open_rings(
    stack: contextlib.AsyncExitStack,
    model: FoundModel,
    store: Store,
    folder: Path,
    threads: Threads,
) -> dict[str, dict[tuple[bool, bool], FarRing]]:
    """One for each way to decode, or more where distance or streams ask for other threads."""
    rings = {}
    for mode in known_modes():
        draft = draft_model.make_q4_0(store, model.path) if mode == DRAFT else None
        made: dict[int, FarRing] = {}
        wanted = [n for (_, many), n in threads.items() if not many or mode == known_modes()[-1]]
        for n in sorted(set(wanted)):
            own = folder / f"{mode}-{n}"
            own.mkdir()
            shape = RingShape(STREAMS, CONTEXT, n)
            made[n] = await stack.enter_async_context(
                open_far_ring(model, store, own, shape, mode_options(mode, draft))
            )
        rings[mode] = {key: made[n] for key, n in threads.items() if n in made}
    return rings


def run(
    rounds: int = 2, *, delays_ms: Sequence[int] = DELAYS_MS, quick: bool = False
) -> dict[str, Any]:
    """Measure everything at these one-way delays of each link; `quick`: a smoke test."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    chosen = sorted(set(delays_ms))
    if quick:
        rounds, chosen = 1, sorted({chosen[0], chosen[-1]})
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        work = _all(model, store, Path(folder), rounds=rounds, delays_ms=chosen, quick=quick)
        return asyncio.run(asyncio.wait_for(work, LIMIT_S))
