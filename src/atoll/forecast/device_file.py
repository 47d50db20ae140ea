"""A measured machine written into a file of devices, which people write in as well.

Only the machine's own entry is touched, and what was added to it by hand, such as its power or
price, stays. Comments and all other entries stay as they are.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from atoll.domain.errors import BadRequest
from atoll.forecast.devices import Device, parse_devices
from atoll.forecast.fleet_file import shipped_fleets
from atoll.forecast.fleets import parse_fleet_line
from atoll.forecast.names import ByName, words

PROBED = "atoll probe"
"""How the source of a measured entry begins."""
MEASURED_KEYS = ("name", "kind", "memory", "bandwidth", "fp16", "timing", "source")
"""What a measurement writes; in this order."""
NAME_CHARS_MAX = 100
_HEADER = re.compile(r"\s*\[\[\s*devices\s*\]\]\s*(#.*)?")
_ANY_HEADER = re.compile(r"\s*\[")
_DIGITS = 4
OTHER_NAME = "choose another name with --name, or another file"


def check_name(name: str) -> None:
    """Refuse a name by which a fleet could not name the machine.

    Raises:
        BadRequest: It is empty, too long, or says something else in the line of a fleet.
    """
    named = ByName("device", [Device(name, "cpu", 0.0, 0.0, {})])
    try:
        is_said = parse_fleet_line(name, named).name == name and name not in shipped_fleets()
    except BadRequest:
        is_said = False
    if not (is_said and words(name) and name.isprintable() and len(name) <= NAME_CHARS_MAX):
        raise BadRequest(
            f"{name!r} cannot be the name of a device",
            hint="letters, digits and spaces, no @, and no number with an x in front",
        )


def with_device(text: str, device: Device, *, source: str) -> str:
    """The file with the machine in it, in the place of an earlier measurement of it.

    Args:
        text: The file as it is, maybe empty.
        device: The machine, measured.
        source: The file's name, for messages.

    Raises:
        BadRequest: It is no file of devices; another device has that name; or its entries are
            written so that one cannot be put among them.
    """
    check_name(device.name)
    known = parse_devices(text, source=source)
    entries = tomllib.loads(text).get("devices", [])
    old = known.get(device.name)
    if old is not None:
        _check_same(old, device, source)
    at = next((i for i, e in enumerate(entries) if old is not None and e["name"] == old.name), None)
    kept = {} if at is None else {k: v for k, v in entries[at].items() if k not in MEASURED_KEYS}
    block = _block(device, kept)
    changed = _appended(text, block) if at is None else _replaced(text, at, block)
    wanted = [entry for i, entry in enumerate(entries) if i != at]
    wanted.insert(len(wanted) if at is None else at, tomllib.loads(block)["devices"][0])
    _check_entries(changed, wanted, device, source)
    return changed


def check_not_by_hand(text: str, name: str, *, source: str) -> None:
    """Refuse a name that the file has for a machine which somebody described by hand.

    Raises:
        BadRequest: It has, or it is no file of devices.
    """
    old = parse_devices(text, source=source).get(name)
    if old is not None and not old.source.startswith(PROBED):
        raise BadRequest(
            f"{source}: {old.name!r} is described by hand, from {old.source!r}", hint=OTHER_NAME
        )


def _check_same(old: Device, device: Device, source: str) -> None:
    if words(old.name) != words(device.name):
        problem = f"{source}: {device.name!r} is another name of {old.name!r}"
    elif old.kind != device.kind:
        problem = f"{source}: {old.name!r} is described as {old.kind}, and this is a {device.kind}"
    elif not old.source.startswith(PROBED):
        problem = f"{source}: {old.name!r} is described by hand, from {old.source!r}"
    else:
        return
    raise BadRequest(problem, hint=OTHER_NAME)


def _check_entries(text: str, wanted: list[Any], device: Device, source: str) -> None:
    """Only this has changed: text of people has more forms than are looked for here."""
    try:
        found = tomllib.loads(text)["devices"]
    except (tomllib.TOMLDecodeError, KeyError):
        found = None
    if found != wanted:
        raise BadRequest(
            f"{source} is written so that {device.name!r} cannot be put into it",
            hint="give each device a header [[devices]] of its own, or choose another file",
        )
    parse_devices(text, source=source)


def _appended(text: str, block: str) -> str:
    body = text.rstrip()
    return f"{body}\n\n{block}" if body else block


def _replaced(text: str, number: int, block: str) -> str:
    """`text` with its entry of that number replaced; what stands behind it stays."""
    lines = text.splitlines()
    headers = [i for i, line in enumerate(lines) if _HEADER.fullmatch(line)]
    if number >= len(headers):
        return text
    first = headers[number]
    rest = range(first + 1, len(lines))
    end = next(
        (i for i in rest if _ANY_HEADER.match(lines[i]) and not _is_own(lines[i])), len(lines)
    )
    # Comments in front of the next entry are about that one.
    while end > first + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip()[0] == "#"):
        end -= 1
    return "\n".join([*lines[:first], block.rstrip("\n"), *lines[end:]]) + "\n"


def _is_own(line: str) -> bool:
    """Whether a header is of a part of the entry: `[devices.timing]`."""
    return re.match(r"\s*\[\s*devices\s*\.", line) is not None


def _block(device: Device, kept: Mapping[str, Any]) -> str:
    timing = device.timing
    assert timing is not None
    parts = [f"bits = {_shown(timing.bits)}"]
    if timing.unpacking:
        parts.append(f"unpacking = {_shown(timing.unpacking)}")
    for name, seconds in (("layer", timing.layer_s), ("hop", timing.hop_s)):
        if seconds:
            parts.append(f'{name} = "{_shown(1e6 * seconds)} us"')
    measured = {
        "memory": f"{_shown(device.memory / 2**30)} GiB",
        "bandwidth": f"{_shown(device.bandwidth / 1e9)} GB/s",
        "fp16": f"{_shown(device.flops['fp16'] / 1e9)} GFLOPS",
    }
    lines = ["[[devices]]", f"name = {_text(device.name)}", f"kind = {_text(device.kind)}"]
    lines += [f"{key} = {_text(value)}" for key, value in measured.items()]
    lines += [f"timing = {{ {', '.join(parts)} }}", f"source = {_text(device.source)}"]
    lines += [f"{key} = {_value(value)}" for key, value in kept.items()]
    return "\n".join(lines) + "\n"


def _shown(number: float) -> str:
    """A few digits, and no exponent, which quantities do not have."""
    plain = f"{float(f'{number:.{_DIGITS}g}'):.9f}"
    return plain.rstrip("0").rstrip(".")


def _text(value: str) -> str:
    # JSON's strings are TOML's, but for one control character that they leave as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(_text(str(item)) for item in value)}]"
    return str(value)
