"""Benchmarks: `python -m bench NAME [--json] [--rounds N]`."""

from __future__ import annotations

import argparse
import importlib
import json
from typing import Any

NAMES = {
    "local": "the ring of three nodes against the whole model, on this machine",
    "links": "round trips of a window over a link",
    "join": "joining: time, bytes, and shards over lines with delay and loss",
    "plan": "plans against what becomes of them, on unequal nodes and links",
    "distance": "a ring over links with delay, beside llama.cpp's RPC over the same",
    "sampling": "whether sampling with guesses keeps the model's distribution",
    "weather": "streams over links that lose, pause, and change their delay",
    "nats": "how soon two nodes behind two emulated routers have a link",
    "prefill": "a long prompt beside four who are answered: their longest gap, its first token",
    "overload": "ten times as many clients as there is room for: refusals, and who pays for them",
    "disconnects": "clients that leave at any moment, beside streams that must not notice",
    "failover": "parts of a ring that die under load: what becomes of the streams",
    "gateway-deaths": "gateways killed under load: what clients lose of their answers",
    "api-fuzz": "made requests to a real gateway, from the API's own document",
    "fuzz": "made bytes to all that reads bytes of strangers",
    "forecast": "forecasts held against published results, and against rings of this machine",
    "simulate": "ten thousand simulated machines for an hour, and Vidur on the same trace",
    "fit-forecast": "fit the forecasts' constants anew, and write them into the package",
    "lpu": "schedules of Groq's LPU: what simulated chips answer, conflicts, and determinism",
    "lpu-compiled": "compile the catalogue's models for LPUs, and write times into the package",
    "wire": "the encodings of hidden states: bytes, time, and their effect on answers",
}
MODULES = {"forecast": "forecast.run", "fit-forecast": "forecast.run", "lpu": "lpu.run"}
"""Where a benchmark is that is no module of its own name."""


def main() -> None:
    """Run one benchmark and print what it found."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "name", choices=NAMES, help="; ".join(f"{k}: {v}" for k, v in NAMES.items())
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument(
        "--rounds",
        type=int,
        help="interleaved rounds (local: 3; distance: 2; prefill, simulate: 3)",
    )
    parser.add_argument("--small-only", action="store_true", help="skip the large model (local)")
    parser.add_argument("--delays", help="one-way delays in ms, such as 0,50 (distance)")
    parser.add_argument("--clients", type=int, help="how many leave (disconnects: 2000)")
    parser.add_argument("--quick", action="store_true", help="a smoke test (distance)")
    parser.add_argument(
        "--kills", type=int, help="how many deaths (failover: 30, gateway-deaths: 20)"
    )
    parser.add_argument("--cases", type=int, default=1_000, help="requests (api-fuzz: 1000)")
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs (fuzz: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="another one, other inputs (fuzz)")
    parser.add_argument("--data", default="", help="a CSV file of other results (forecast)")
    parser.add_argument(
        "--no-own", action="store_true", help="measure no rings of this machine (forecast)"
    )
    parser.add_argument(
        "--no-sim", action="store_true", help="do not time the serving simulation (forecast)"
    )
    asked = parser.parse_args()
    place = MODULES.get(asked.name, asked.name.replace("-", "_"))
    module = importlib.import_module(f"bench.{place}")
    found: dict[str, Any]
    if asked.name == "local":
        found = module.run(asked.rounds or 3, large=not asked.small_only)
    elif asked.name == "distance":
        chosen = [int(ms) for ms in (asked.delays or "0,5,20,50").split(",")]
        found = module.run(asked.rounds or 2, delays_ms=chosen, quick=asked.quick)
    elif asked.name in {"prefill", "simulate"}:
        found = module.run(asked.rounds or 3)
    elif asked.name == "disconnects":
        found = module.run(asked.clients or module.CLIENTS)
    elif asked.name in {"failover", "gateway-deaths"}:
        found = module.run(asked.kills or module.KILLS)
    elif asked.name == "api-fuzz":
        found = module.run(asked.cases, asked.seed)
    elif asked.name == "forecast":
        found = module.run(asked.data, with_own=not asked.no_own, with_sim=not asked.no_sim)
    elif asked.name == "fit-forecast":
        found = module.fit_and_write()
    elif asked.name == "fuzz":
        found = module.run(asked.inputs, asked.seed)
    else:
        found = module.run()
    if asked.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:28} {json.dumps(value)}")


if __name__ == "__main__":
    main()
