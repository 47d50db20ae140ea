"""A measured machine goes into people's files, and nothing else there changes."""

from __future__ import annotations

import tomllib

import pytest
from msgspec.structs import replace

from atoll.domain.errors import BadRequest
from atoll.forecast.device_file import check_name, with_device
from atoll.forecast.devices import Device, Timing, parse_devices

TIMING = Timing(layer_s=12.9341e-6, hop_s=1.1e-3, bits=5.0104, unpacking=0.9123)
REEF = Device(
    *("reef", "cpu", 25276510208, 6.1774e9, {"fp16": 18.51e9}),
    source="atoll probe, 2026-11-29, smollm2, 1 and 1 threads",
    timing=TIMING,
)
CARD = """# Mine.
[[devices]]   # the card
name = "Reef card"
aliases = ["card"]
kind = "gpu"
memory = "48 GiB"   # as it says
bandwidth = "1.2 TB/s"
source = "weighed by hand"
"""
LATER = """
# Next to it.
[[devices]]
name = "cove"
kind = "soc"
source = "a box"

[devices.timing]
bits = 4.5
"""


def put(text: str, device: Device = REEF) -> str:
    return with_device(text, device, source="mine.toml")


def test_a_new_file_is_read_as_it_was_written() -> None:
    [read] = parse_devices(put(""), source="x")
    assert read.bandwidth == pytest.approx(REEF.bandwidth, rel=1e-3)
    assert read.flops["fp16"] == pytest.approx(18.51e9, rel=1e-3)
    assert read.memory == pytest.approx(REEF.memory, rel=1e-3)
    assert read.timing is not None
    assert read.timing.layer_s == pytest.approx(TIMING.layer_s, rel=1e-3)
    assert read.timing.hop_s == pytest.approx(TIMING.hop_s, rel=1e-3)
    assert read.timing.bits == pytest.approx(TIMING.bits, rel=1e-3)
    assert read.timing.unpacking == pytest.approx(TIMING.unpacking, rel=1e-3)
    assert (read.name, read.kind, read.source) == (REEF.name, REEF.kind, REEF.source)


def test_others_stay_as_they_are_with_their_comments() -> None:
    text = put(CARD)
    assert text.startswith(CARD)
    assert [device.name for device in parse_devices(text, source="x")] == ["Reef card", "reef"]


def test_a_measurement_takes_the_place_of_an_earlier_one() -> None:
    before = put(CARD) + LATER
    again = replace(REEF, bandwidth=7e9, source="atoll probe, 2026-12-01, smollm2")
    after = put(before, again)
    assert after.startswith(CARD)
    assert after.endswith(LATER)
    assert parse_devices(after, source="x").find("reef").bandwidth == 7e9
    assert put(after, again) == after


ADDED = """power = "65 W"   # a socket meter
aliases = ["home", "den"]
chips = 2
note = "in the \\"attic\\""
"""


def test_what_was_added_by_hand_stays() -> None:
    before = put(CARD) + ADDED + LATER
    after = put(before, replace(REEF, source='atoll probe, of "x"'))
    read = parse_devices(after, source="x").find("den")
    assert (read.power, read.chips, read.note) == (65, 2, 'in the "attic"')
    assert (read.name, read.source) == ("reef", 'atoll probe, of "x"')
    assert after.endswith(LATER)


def test_times_of_nothing_are_left_out() -> None:
    text = put("", replace(REEF, timing=Timing(0.0, 1e-3, 4.5)))
    [read] = parse_devices(text, source="x")
    assert read.timing == Timing(0.0, 1e-3, 4.5)


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        (CARD, "Reef card", "'Reef card' is described as gpu, and this is a cpu"),
        (CARD.replace('"gpu"', '"cpu"'), "reef CARD", "is described by hand, from 'weighed by"),
        (CARD, "card", "'card' is another name of 'Reef card'"),
    ],
)
def test_what_somebody_else_has_described_is_not_replaced(
    text: str, name: str, problem: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        put(text, replace(REEF, name=name))
    assert problem in str(caught.value)
    assert "--name" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        'devices = [{ name = "cove", kind = "soc", source = "a box" }]',
        CARD.replace("[[devices]]", '[["devices"]]') + put("").replace('"us"', '"us"'),
    ],
)
def test_forms_that_nothing_can_be_put_into(text: str) -> None:
    slower = replace(REEF, bandwidth=1e9)
    with pytest.raises(BadRequest, match="is written so that 'reef' cannot be put into it"):
        put(text, slower)


def test_words_that_look_like_another_entry() -> None:
    """A header inside a text is none; where that cannot be told apart, nothing is changed."""
    tricky = CARD.rstrip("\n") + "\nnote = '''\n[[devices]]\n'''\n"
    assert tomllib.loads(put(tricky))["devices"][0]["note"] == "[[devices]]\n"
    with pytest.raises(BadRequest, match="cannot be put into it"):
        put(put(tricky), replace(REEF, bandwidth=1e9))


@pytest.mark.parametrize("text", ["[[devices", "[[devices]]\nname = 3", "[other]"])
def test_files_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match=r"mine\.toml cannot be read"):
        put(text)


@pytest.mark.parametrize(
    "name",
    ["", "  ", "a @ b", "@", "3 x reef", "4*reef", "a\nb", "x" * 101, "\x7f", "6-rented", " reef"],
)
def test_names_that_no_fleet_could_say(name: str) -> None:
    with pytest.raises(BadRequest, match="cannot be the name of a device"):
        check_name(name)


def test_names() -> None:
    for name in ("reef", "vm-3 AMD EPYC", "CUDA0 (NVIDIA RTX 3090)", "3x"):
        check_name(name)
