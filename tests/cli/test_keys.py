"""`atoll keys` as its user sees it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.cli.conftest import Run

from atoll.api.keys import KeyStore


def test_a_key_is_made_listed_and_revoked(run: Run, run_plainly: Run, tmp_path: Path) -> None:
    made = run("keys", "create", "laptop")
    key = made.out.strip()
    assert made.code == 0
    assert key.startswith("atoll-")
    assert "not shown again" in made.err

    store = KeyStore(tmp_path / "home" / "keys.json")
    found = store.verify(key)
    assert found is not None
    assert found.name == "laptop"
    assert stat.S_IMODE((tmp_path / "home" / "keys.json").stat().st_mode) == 0o600

    listed = run_plainly("keys", "list")
    assert found.id in listed.out
    assert key not in listed.out

    revoked = run("keys", "revoke", found.id)
    assert revoked.out == f"revoked {found.id} laptop\n"
    assert store.verify(key) is None
    assert run("keys", "list").out == ""


def test_keys_as_json(run: Run) -> None:
    made = json.loads(run("keys", "create", "one", "--json").out)
    key = made.pop("key")
    assert key.startswith(f"atoll-{made['id']}-")
    allowed = {"streams": 0, "tokens_per_minute": 0, "priority": "normal"}
    assert made == {"id": made["id"], "name": "one", "created": made["created"]} | allowed
    listed = json.loads(run("keys", "list", "--json").out)
    assert listed == [made]
    assert json.loads(run("keys", "revoke", "one", "--json").out) == listed[0]
    assert json.loads(run("keys", "list", "--json").out) == []


def test_a_name_is_given_once(run: Run) -> None:
    assert run("keys", "create", "one").code == 0
    again = run("keys", "create", "one")
    assert again.code == 2
    assert again.out == ""
    assert "already" in again.err
    assert "hint: revoke it" in again.err


def test_a_key_file_open_to_others_is_refused(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "one")
    (tmp_path / "home" / "keys.json").chmod(0o644)
    refused = run("keys", "list")
    assert refused.code == 2
    assert "open to other users" in refused.err


def test_what_a_key_may_use_is_shown_and_changed(run: Run) -> None:
    made = run("keys", "create", "one", "--streams", "4", "--priority", "high")
    assert made.code == 0
    row = run("keys", "list").out.splitlines()[-2]
    assert [cell.strip() for cell in row.split("│")][-4:-1] == ["4", "-", "high"]
    changed = run("keys", "set", "one", "--tokens-per-minute", "2000")
    assert "4 answers at once, 2000 tokens a minute, priority high" in changed.out
    reply = json.loads(run("keys", "set", "one", "--streams", "0", "--json").out)
    assert (reply["streams"], reply["tokens_per_minute"], reply["priority"]) == (0, 2000, "high")
    assert json.loads(run("keys", "list", "--json").out) == [reply]


def test_what_cannot_be_allowed(run: Run) -> None:
    assert run("keys", "create", "one", "--streams", "-1").code == 2
    assert run("keys", "create", "one", "--tokens-per-minute", str(2**31)).code == 2
    assert run("keys", "create", "one", "--priority", "highest").code == 2
    assert run("keys", "set", "nobody", "--streams", "1").code == 2
    assert json.loads(run("keys", "list", "--json").out) == []
