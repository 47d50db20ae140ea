"""Machines behind home routers join and serve; routers and homes are network namespaces."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import MakeModel
from tests.support.children import new_children
from tests.support.namespaces import Host, Internet, open_internet, why_no_internet
from tests.support.programs import RELAY_PORT, Programs, open_programs

from atoll.engine.whole import WholeModel
from atoll.net import iroh_patch

_REASON = why_no_internet()

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
    pytest.mark.skipif(not iroh_patch.is_available(), reason="no wheel of iroh for this system"),
    pytest.mark.skipif(_REASON != "", reason=_REASON),
]

PROMPT = "the tide goes out and the"
TOKENS = 16


@pytest.fixture
def internet() -> Iterator[Internet]:
    with open_internet() as internet:
        yield internet


@pytest.fixture(scope="module")
def model(random_model: MakeModel) -> Path:
    """A layer for each of five nodes, and one at each end."""
    return random_model("llama", n_layers=7)


@pytest.fixture
def programs(model: Path, tmp_path: Path) -> Iterator[Programs]:
    with open_programs(tmp_path, model) as programs:
        yield programs


@pytest.fixture(scope="module")
def wanted(model: Path) -> str:
    """What the whole model says."""
    whole = WholeModel(model, n_slots=1, context=256, threads=1)
    prompt = tuple(whole.vocabulary.tokens(PROMPT, add_special=True, parse_special=False))
    [tokens] = whole.greedy([prompt], TOKENS, exact=True, stop_at_end=False).tokens
    text = b"".join(whole.vocabulary.piece(token) for token in tokens)
    whole.close()
    return text.decode("utf-8", "replace")


def url_of(relay: Host) -> str:
    return f"http://{relay.address}:{RELAY_PORT}"


def text_of(reply: dict[str, object]) -> object:
    assert reply["status"] == 200, reply
    return reply["body"]["choices"][0]["text"]  # type: ignore[index]


def test_five_machines_two_behind_routers(
    internet: Internet, programs: Programs, wanted: str
) -> None:
    meeting = internet.host()
    relay = programs.relay(meeting)
    gateway = programs.gateway(internet.host(), 5, "--relay", url_of(meeting))
    hosts = {
        "open-1": internet.host(),
        "home-1": internet.home(),
        "home-2": internet.home(),
        "open-2": internet.host(),
        "open-3": internet.host(),
    }
    for name, host in hosts.items():
        programs.join(host, name, programs.invite()).wait_said("joined as")
    programs.wait_serving()
    assert text_of(programs.ask(PROMPT, TOKENS)) == wanted
    carriers = {
        stage["name"]: stage["carrier"] for stage in programs.status()["rings"][0]["stages"]
    }
    assert carriers == {name: "quic" if "home" in name else "tls" for name in hosts}
    # The relay only helped to find the direct ways: one that dies hurts nobody.
    relay.stop(signal.SIGKILL)
    assert text_of(programs.ask(PROMPT, TOKENS)) == wanted
    assert gateway.stop() == 0
    for node in programs.nodes.values():
        assert node.process.wait(20) == 0, node.said
    assert new_children() == []


def test_without_a_relay_neighbours_punch_holes(
    internet: Internet, programs: Programs, wanted: str
) -> None:
    gateway = programs.gateway(internet.host(), 3)
    for name, host in (
        ("open", internet.host()),
        ("home-1", internet.home()),
        ("home-2", internet.home()),
    ):
        programs.join(host, name, programs.invite()).wait_said("joined as")
    programs.wait_serving()
    assert text_of(programs.ask(PROMPT, TOKENS)) == wanted
    assert gateway.stop() == 0
    for node in programs.nodes.values():
        assert node.process.wait(20) == 0, node.said
    assert new_children() == []


@pytest.mark.long
def test_a_gateway_at_home_with_a_forwarded_port(
    internet: Internet, programs: Programs, wanted: str
) -> None:
    home = internet.home(forward=8643)
    gateway = programs.gateway(home, 2, "--advertise", f"{home.outside}:8643")
    # The last stage dials the gateway: one from home, then one that came by TCP.
    hosts = {"home": internet.home(), "open": internet.host()}
    for name, host in hosts.items():
        programs.join(host, name, programs.invite()).wait_said("joined as")
    programs.wait_serving()
    assert text_of(programs.ask(PROMPT, TOKENS)) == wanted
    assert gateway.stop() == 0
    for node in programs.nodes.values():
        assert node.process.wait(20) == 0, node.said
    assert new_children() == []


@pytest.mark.long
def test_who_can_reach_the_relay_alone_joins_and_comes_back(
    internet: Internet, programs: Programs, wanted: str
) -> None:
    meeting = internet.host()
    relay = programs.relay(meeting)
    # Neither side's port can be foretold, and neither lets anybody in.
    gateway = programs.gateway(
        internet.home(random_ports=True), 1, "--relay", url_of(meeting), "--link", "quic"
    )
    home = internet.home(random_ports=True)
    ticket = programs.invite()
    node = programs.join(home, "node", ticket)
    programs.wait_serving()
    assert text_of(programs.ask(PROMPT, TOKENS)) == wanted

    relay.stop(signal.SIGKILL)
    node.wait_said("trying to come back")

    relay = programs.relay(meeting)
    # The ticket is used up: what lets the node in now is its key.
    late = programs.start(internet.home(), "late", "join", ticket)
    programs.wait_serving(times=2)
    assert text_of(programs.ask(PROMPT, TOKENS)) == wanted
    assert late.process.wait(30) != 0
    assert "only while the ticket is good" in late.said
    assert gateway.stop() == 0
    assert node.process.wait(20) == 0
    assert relay.stop() == 0
    assert new_children() == []


@pytest.mark.long
def test_nodes_behind_routers_time_the_way_between_them(
    internet: Internet, programs: Programs
) -> None:
    gateway = programs.gateway(internet.host(), 2, "--verbose", plan="auto")
    for name in ("home-1", "home-2"):
        programs.join(internet.home(), name, programs.invite(), machine=name)
    gateway.wait_said("peer_ways.known one=home-")
    assert "peer_ways.not_timed" not in gateway.said
    # The plan needs one of them, or both.
    gateway.wait_said("the ring is complete")
    assert gateway.stop() == 0
    for node in programs.nodes.values():
        assert node.process.wait(20) == 0, node.said
    assert new_children() == []
