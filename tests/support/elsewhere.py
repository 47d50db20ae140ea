"""`atoll` as it runs on another machine: `elsewhere.py MACHINE ARGUMENTS`.

All nodes of a test run on one machine, and nodes of one machine do not time the
way between them.
"""

from __future__ import annotations

import sys
from unittest import mock

from atoll.node import options

if __name__ == "__main__":
    machine, *arguments = sys.argv[1:]
    with mock.patch.object(options, "host_id", return_value=machine):
        # Whoever names this machine imports that by name.
        from atoll.cli.app import main

        sys.exit(main(arguments))
