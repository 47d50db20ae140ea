"""Options that say which API a command talks to.

There is no flag for the key itself: other users of a machine can read the
arguments of its processes.
"""

from __future__ import annotations

import os
from pathlib import Path

from atoll.cli.settings import HomeFlags, flags
from atoll.client.endpoint import Endpoint, choose_endpoint
from atoll.net.private_file import PrivateFileFault, read_private

KEY_VARIABLE = "ATOLL_API_KEY"
KEY_BYTES_MAX = 4096


@flags
class TargetFlags(HomeFlags):
    """Which API to talk to, and with which key."""

    url: str | None = None
    """Address of the API. Default: the gateway that runs on this machine."""

    key_file: Path | None = None
    """File that holds the API key, readable by you alone. Default: $ATOLL_API_KEY."""

    def endpoint(self) -> Endpoint:
        """The API to talk to.

        Raises:
            AtollError: None is meant, or the key cannot be read.
        """
        return choose_endpoint(self.url, self._key(), self.home_dir())

    def _key(self) -> str:
        if self.key_file is None:
            return os.environ.get(KEY_VARIABLE, "").strip()
        try:
            content = read_private(self.key_file.expanduser(), bytes_max=KEY_BYTES_MAX)
        except FileNotFoundError:
            raise PrivateFileFault(
                f"there is no key file {self.key_file}", hint="check --key-file"
            ) from None
        return content.decode("utf-8", "replace").strip()
