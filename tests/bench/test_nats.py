"""The benchmark of routers runs, and what it measures is what it says."""

from __future__ import annotations

import pytest
from tests.support.namespaces import why_no_internet

from atoll.net import iroh_patch
from bench import nats

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not iroh_patch.is_available(), reason="no wheel of iroh for this system"),
]


@pytest.mark.alone
@pytest.mark.skipif(why_no_internet() != "", reason=why_no_internet())
def test_a_link_stands_through_the_relay_and_then_without() -> None:
    found = nats.run(rounds=1)
    assert 0 < found["relayed_s"] <= found["direct_s"] < 2
    # Nobody can foretell the port that such a router takes.
    assert found["random_direct_s"] is None
    assert 0 < found["random_relayed_s"] < 2


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats, "why_no_internet", lambda: "no root")
    assert nats.run() == {"skipped": "no root"}
