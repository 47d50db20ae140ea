"""`atoll keys` as its user sees it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.cli.conftest import Run

from atoll.api.keys import KeyStore


def test_a_key_is_made_listed_and_revoked(run: Run, tmp_path: Path) -> None:
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

    listed = run("keys", "list")
    assert found.id in listed.out
    assert key not in listed.out

    revoked = run("keys", "revoke", found.id)
    assert revoked.out == f"revoked {found.id} laptop\n"
    assert store.verify(key) is None
    assert run("keys", "list").out == ""


def test_keys_as_json(run: Run) -> None:
    made = json.loads(run("keys", "create", "one", "--json").out)
    assert set(made) == {"id", "name", "created", "key"}
    listed = json.loads(run("keys", "list", "--json").out)
    assert listed == [{name: made[name] for name in ("id", "name", "created")}]
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
