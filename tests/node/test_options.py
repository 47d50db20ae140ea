"""The machine's mark, and a node's options."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from atoll.node.options import NodeOptions, host_id


def test_the_hosts_mark_is_the_same_for_every_process() -> None:
    code = "from atoll.node.options import host_id; print(host_id())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout.decode().strip() == host_id()


def test_the_hosts_mark_tells_nothing_about_it() -> None:
    mark = host_id()
    assert re.fullmatch(r"[0-9a-f]{16}", mark)
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        known = Path(path)
        if known.is_file() and known.read_text().strip():
            assert mark not in known.read_text()


def test_a_node_is_reached_where_it_reaches_the_gateway_unless_told() -> None:
    options = NodeOptions("a", "", 1, 1)
    assert (options.host, options.port, options.spin) == ("", 0, None)
