"""`atoll status` against a running ring and against none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import NODES, LiveRing, Run


@pytest.mark.engine
@pytest.mark.network
class TestLive:
    def test_the_table_names_every_stage(self, ring: LiveRing, run_plainly: Run) -> None:
        shown = run_plainly("status", home=ring.home)
        assert shown.code == 0, shown.err
        assert "ready" in shown.out
        for number in range(NODES):
            assert f"node-{number}" in shown.out
        assert "1-14" in shown.out
        assert "15-28" in shown.out
        assert "measured ms" in shown.out

    def test_json_holds_the_numbers(self, ring: LiveRing, run: Run) -> None:
        found = json.loads(run("status", "--json", home=ring.home).out)
        assert found["ready"] is True
        assert [(s["first"], s["last"]) for s in found["rings"][0]["stages"]] == [(1, 15), (15, 29)]
        assert all(stage["shard_bytes"] > 1e6 for stage in found["rings"][0]["stages"])
        ends = [(link["from"], link["to"]) for link in found["rings"][0]["links"]]
        assert ends[0][0] == ends[-1][1] == "gateway"
        names = [stage["name"] for stage in found["rings"][0]["stages"]]
        assert [target for _, target in ends[:-1]] == names

    def test_a_key_is_needed_elsewhere(self, ring: LiveRing, run: Run) -> None:
        refused = run("status", "--url", ring.url)
        assert refused.code == 7
        assert "key is missing" in refused.err
        assert "atoll keys create" in refused.err

    def test_a_key_by_variable_or_file(self, ring: LiveRing, run: Run, tmp_path: Path) -> None:
        key = run("keys", "create", tmp_path.name, home=ring.home).out.strip()
        assert run("status", "--url", ring.url, ATOLL_API_KEY=key).code == 0
        file = tmp_path / "key"
        file.touch(mode=0o600)
        file.write_text(f"{key}\n")
        assert run("status", "--url", f"{ring.url}/v1", "--key-file", str(file)).code == 0
        run("keys", "revoke", tmp_path.name, home=ring.home)
        refused = run("status", "--url", ring.url, "--key-file", str(file))
        assert refused.code == 7
        assert "key is wrong" in refused.err


def test_a_key_file_open_to_others_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("atoll-x")
    file.chmod(0o644)
    refused = run("status", "--url", "http://127.0.0.1:1", "--key-file", str(file))
    assert refused.code == 6
    assert "open to other users" in refused.err
    missing = run("status", "--url", "http://127.0.0.1:1", "--key-file", str(tmp_path / "no"))
    assert missing.code == 6
    assert "there is no key file" in missing.err
