from __future__ import annotations

import pytest

from atoll.domain.address import HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.iroh_terms import bind_options, dial_fault, host_port, said
from atoll.net.link import WrongPeer


class Odd(Exception):
    """An error as the package makes them: its text is empty."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def message(self) -> str:
        return self._text


def test_what_an_error_says_is_its_last_line_made_safe() -> None:
    assert (
        said(Odd("Connect (/a/path.rs:1)\n  Caused by:\n   timed out\x1b[2J\n")) == "timed out?[2J"
    )
    assert said(Odd("")) == "Odd"
    assert len(said(Odd("x" * 5000))) == 300
    assert said(ValueError("plain")) == "plain"


@pytest.mark.parametrize(
    ("text", "place"),
    [("127.0.0.1:80", HostPort("127.0.0.1", 80)), ("[::1]:9", HostPort("::1", 9))],
)
def test_host_and_port_there_and_back(text: str, place: HostPort) -> None:
    assert host_port(text) == place
    assert str(place) == text


def test_only_the_interface_that_was_asked_for_is_opened() -> None:
    assert bind_options("0.0.0.0", 5) == ["0.0.0.0:5"]
    assert bind_options("::", 5) == ["[::]:5"]
    assert bind_options("192.0.2.1", 5) == ["192.0.2.1:5", "[::1]:0"]
    assert bind_options("::1", 0) == ["[::1]:0", "127.0.0.1:0"]
    with pytest.raises(LinkFault, match="not an IP"):
        bind_options("localhost", 0)


def test_failed_dials_have_names() -> None:
    expected = NodeId("ab" * 32)
    words = "error 48: invalid peer certificate: UnknownIssuer"
    assert isinstance(dial_fault(words, "there", expected), WrongPeer)
    words = "peer doesn't support any known protocol"
    assert "takes no such link" in str(dial_fault(words, "there", expected))
    words = "the server refused to accept a new connection"
    assert "takes no links now" in str(dial_fault(words, "there", expected))
    assert "cannot reach there: odd" in str(dial_fault("odd", "there", expected))
