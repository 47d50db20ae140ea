"""Where options come from beside the command line: variables and a settings file.

One struct of options for each command feeds flags, variables, file and help.
A flag goes before a variable, a variable before the file.

    [serve]             # settings.toml: a table for each command
    nodes = 3
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform, get_type_hints

import platformdirs
from cyclopts import Parameter
from cyclopts.config import Dict, Env

from atoll.domain.errors import AtollError
from atoll.engine.devices import check_wish
from atoll.ring.coordinator_config import CHUNK_ROWS_MAX
from atoll.store.layout import Store, default_home

VARIABLE_PREFIX = "ATOLL_"


class BadSettings(AtollError):
    """A settings file that cannot be read or says what nobody understands."""

    exit_code = 2


Flags = TypeVar("Flags")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def flags(options: type[Flags]) -> type[Flags]:
    """Make a struct of options: frozen, by keyword only, each field a flag of its own.

    Types are resolved here, each in the module that wrote it, as an inherited
    field's would otherwise be looked up where its heir stands.
    """
    struct = dataclass(frozen=True, kw_only=True)(options)
    hints = get_type_hints(struct, include_extras=True)
    struct.__init__.__annotations__ = {**hints, "return": type(None)}
    return Parameter(name="*")(struct)


@flags
class HomeFlags:
    """Where secrets lie."""

    home: Path | None = None
    """Where keys and identities lie. Default: $ATOLL_HOME, or your folder for data."""

    def home_dir(self) -> Path:
        """The home that counts."""
        return (self.home or default_home()).expanduser().absolute()


@flags
class StoreFlags:
    """Where models lie."""

    store: Annotated[Path | None, Parameter(env_var="ATOLL_STORE")] = None
    """Where models lie. Default: $ATOLL_HOME, or your folder for data."""

    def open_store(self) -> Store:
        """The store that counts.

        Raises:
            AtollError: Its folder cannot be written.
        """
        return Store(self.store.expanduser().absolute() if self.store else None)


def check_gpu(_type: type, value: str) -> None:
    """Validate `--gpu`.

    Raises:
        ValueError: It is neither `auto`, `none` nor a number.
    """
    check_wish(value)


def check_chunk(_type: type, value: str) -> None:
    """Validate `--chunk`.

    Raises:
        ValueError: It is neither `auto` nor a number of rows that a chunk may have.
    """
    if value != "auto" and not (value.isdecimal() and 1 <= int(value) <= CHUNK_ROWS_MAX):
        raise ValueError(f"write auto or a number from 1 to {CHUNK_ROWS_MAX}")


def check_interface(_type: type, value: str) -> None:
    """Validate the address of a network interface; empty stands for the default.

    Raises:
        ValueError: It is no IPv4 address.
    """
    if value:
        ipaddress.IPv4Address(value)


def settings_path() -> Path:
    """The user's own settings file."""
    return platformdirs.user_config_path("atoll") / "settings.toml"


def settings_sources(path: Path | None, commands: Container[str]) -> Sequence[Callable[..., Any]]:
    """Variables, then the settings file.

    Args:
        path: A file that must be there; None: the user's own, if there is one.
        commands: Tables that the file may have.

    Raises:
        BadSettings: The file is missing, is no TOML, or has another table.
    """
    chosen = path or settings_path()
    found = _read(chosen, must_exist=path is not None)
    for name, value in found.items():
        if name not in commands or not isinstance(value, dict):
            raise BadSettings(
                f"{chosen}: {name!r} is not a table of a command",
                hint="options stand in a table of their command, such as [serve]",
            )
    return [
        Env(VARIABLE_PREFIX, show=False),
        Dict(data=found, source=str(chosen)),
    ]


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.expanduser().read_text("utf-8"))
    except FileNotFoundError:
        if not must_exist:
            return {}
        raise BadSettings(f"there is no settings file {path}", hint="check --config") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(
            f"the settings file {path} cannot be read: {error}", hint="repair it, or move it away"
        ) from error
