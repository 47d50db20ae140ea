"""`atoll service`: a node that the machine starts by itself."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shlex
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from atoll.cli.join_flags import JoinFlags
from atoll.cli.screen import say
from atoll.cli.settings import flags
from atoll.domain.errors import BadRequest
from atoll.node.membership import FILE
from atoll.node.service import LABEL, UNIT_FILE, Service, launchd_plist, systemd_unit
from atoll.store.layout import default_home

Kind = Literal["auto", "systemd", "launchd"]

FILE_VARIABLES = ("ATOLL_CONFIG", "ATOLL_LLAMA_LIBRARY", "HF_HOME", "HF_TOKEN_PATH")
VARIABLES = ("HF_ENDPOINT",)
"""Variables that count for the service as they do here. Secrets are not among them."""


@flags
class ServiceFlags(JoinFlags):
    """Options of `atoll service print`: its own, and those of `atoll join`."""

    system: bool = False
    """Start it with the machine, as the user to whom the home belongs. Default: as a service
    of yours."""

    kind: Kind = "auto"
    """What starts it: `systemd`, `launchd`, or `auto` for what this system has."""

    def service(self) -> Service:
        """The node that these options describe.

        Raises:
            BadRequest: An option cannot be.
        """
        self.node_options()
        home = self.home_dir()
        # Whoever it runs as may not reach the folders of the one who asks.
        store = (self.store or (home if self.system else default_home())).expanduser().absolute()
        places = (f"--home={home}", f"--store={store}")
        return Service(
            command=(*program(), "join", *places, *self._for_join()),
            home=home,
            store=store,
            account=_owner_of(home) if self.system else None,
            environment=dict(_passed_on(os.environ)),
        )

    def _for_join(self) -> Iterator[str]:
        """The options that `atoll join` is to be given, where they are not its defaults."""
        for option in dataclasses.fields(JoinFlags):
            value = getattr(self, option.name)
            if option.name in ("home", "store") or value == option.default:
                continue
            if option.name == "share_cores":
                yield "--own-cores"
            elif option.name == "model" and Path(value).expanduser().is_file():
                yield f"--model={Path(value).expanduser().absolute()}"
            else:
                yield f"--{option.name.replace('_', '-')}={value}"

    def is_for_launchd(self) -> bool:
        """Which of the two describes it."""
        return self.kind == "launchd" or (self.kind == "auto" and sys.platform == "darwin")


def print_service(*, options: ServiceFlags | None = None) -> None:
    """Print a description of this node for systemd or launchd.

    It starts `atoll join`, with the options given here, whenever it is not running: after a
    start of the machine, after a failure, and after the gateway went. It comes back as the
    same node, without a ticket; so join once with one before. A node that was revoked is not
    started again (by systemd; launchd keeps trying).

    Example: `atoll service print --own-cores`

    Example: `atoll service print --system --home /var/lib/atoll`
    """
    options = options or ServiceFlags()
    service = options.service()
    launchd = options.is_for_launchd()
    print(launchd_plist(service) if launchd else systemd_unit(service), end="")
    # Another user's home may not be open to us; then this is left to its owner.
    if os.access(service.home, os.X_OK) and not (service.home / FILE).exists():
        join = shlex.join(["atoll", "join", "TICKET", f"--home={service.home}"])
        say(f"the home {service.home} has joined no gateway yet; do so once: {join}")
    say(_launchd_steps(service) if launchd else _systemd_steps(service))


def _passed_on(here: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in (*FILE_VARIABLES, *VARIABLES):
        if value := here.get(name):
            yield (
                name,
                str(Path(value).expanduser().absolute()) if name in FILE_VARIABLES else value,
            )


def program() -> tuple[str, ...]:
    """The command `atoll` of this installation, by its absolute path."""
    script = Path(sysconfig.get_path("scripts"), "atoll")
    if os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-P", "-m", "atoll")


def _owner_of(home: Path) -> str:
    """The user to whom a home belongs; where there is none yet, whoever asks."""
    try:
        user = home.stat().st_uid
    except FileNotFoundError:
        user = os.geteuid()
    except OSError as error:
        raise BadRequest(
            f"cannot see to whom {home} belongs: {error.strerror}", hint="run this as its owner"
        ) from error
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        raise BadRequest(
            f"the home {home} belongs to user id {user}, which has no name",
            hint="make an account for it",
        ) from None


def _systemd_steps(service: Service) -> str:
    if service.account is not None:
        folder, control, linger = "/etc/systemd/system", "systemctl", ""
    else:
        folder, control = "~/.config/systemd/user", "systemctl --user"
        linger = "; to run also while you are logged out: loginctl enable-linger"
    return f"keep it as {folder}/{UNIT_FILE}, then: {control} enable --now {UNIT_FILE}{linger}"


def _launchd_steps(service: Service) -> str:
    folder, domain = (
        ("/Library/LaunchDaemons", "system")
        if service.account is not None
        else ("~/Library/LaunchAgents", "gui/$UID")
    )
    file = f"{folder}/{LABEL}.plist"
    return f"keep it as {file}, then: launchctl bootstrap {domain} {file}"
