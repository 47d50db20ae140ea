"""`atoll invite`: a ticket, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import LiveRing, Run

from atoll.cli.invite import duration_s
from atoll.domain.errors import BadRequest
from atoll.net.ticket import Ticket


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800), (" 1w ", 604_800)],
)
def test_durations(text: str, seconds: int) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "0s", "-1h", "1.5h", "1y", "367d", "9" * 20 + "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        duration_s(text)
    assert "30m" in caught.value.hint


def test_without_a_gateway_there_is_nothing_to_join(run: Run) -> None:
    refused = run("invite")
    assert refused.code == 1
    assert "no gateway runs" in refused.err
    assert "atoll serve" in refused.err


@pytest.mark.engine
@pytest.mark.network
class TestLive:
    def test_the_ticket_alone_is_on_standard_output(self, ring: LiveRing, run_plainly: Run) -> None:
        made = run_plainly("invite", "--owner", "anna", home=ring.home)
        assert made.code == 0
        ticket = Ticket.parse(made.out)
        assert str(ticket.addresses[0]) in made.err
        assert "one machine of anna" in made.err
        assert ticket.secret not in made.err

    def test_as_json(self, ring: LiveRing, run: Run) -> None:
        made = run(
            *("invite", "--json", "--uses", "3", "--expires", "2d"),
            *("--address", "reef.example.org:9", "--address", "[::1]:8"),
            home=ring.home,
        )
        told = json.loads(made.out)
        assert (told["uses"], told["owner"]) == (3, "local")
        assert told["addresses"] == ["reef.example.org:9", "[::1]:8"]
        ticket = Ticket.parse(told["ticket"])
        assert [str(address) for address in ticket.addresses] == told["addresses"]
        listed = json.loads(run("nodes", "list", "--json", home=ring.home).out)
        assert told["id"] in {invitation["id"] for invitation in listed["invitations"]}
        assert ticket.secret not in json.dumps(listed)

    def test_into_a_file(self, ring: LiveRing, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "a.ticket"
        made = run("invite", "--output", str(path), home=ring.home)
        assert made.out.strip() == str(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert Ticket.load(path).secret not in made.err

    @pytest.mark.parametrize(
        "arguments", [("--expires", "soon"), ("--address", "x"), ("--owner", " "), ("--uses", "0")]
    )
    def test_what_cannot_be_invited(
        self, ring: LiveRing, run: Run, arguments: tuple[str, ...]
    ) -> None:
        before = run("nodes", "list", "--json", home=ring.home).out
        refused = run("invite", *arguments, home=ring.home)
        assert refused.code == 2
        assert "hint: " in refused.err
        assert run("nodes", "list", "--json", home=ring.home).out == before
