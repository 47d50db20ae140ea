"""Rows of what a system draws: servers under full load, and machines that decode one stream."""

from __future__ import annotations

from atoll.forecast.constants import Constants
from atoll.forecast.devices import shipped_devices
from atoll.forecast.power import desk_watts, server_watts
from bench.forecast.cases import Apart, Case, Key
from bench.forecast.local import where
from bench.forecast.rows import Row


def read(row: Row) -> Case | Apart | None:
    """Of a row of watts, its case."""
    if row.unit != "W":
        return None
    desk = row.metric == "peak wall power"
    device = where(row)[0] if desk else shipped_devices().find_in(row.device)
    if device is None:
        return Apart(row, f"no device of the catalogue stands in {row.device!r}")
    if not row.n:
        return Apart(row, "how many devices they were is not published")
    if not device.power:
        return Apart(row, f"the power of {device.name} is not published")
    capped = "MaxQ" in row.system
    host = row.device.split("(")[0].strip()

    def predict(constants: Constants) -> float:
        if desk:
            return desk_watts(device, host, constants)
        return server_watts(device, row.n, constants, capped=capped)

    key: Key = "power_desk" if desk else "power"
    return Case(key, f"{device.vendor} {device.kind}", row, predict)
