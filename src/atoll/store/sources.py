"""How the addresses of models begin, by what serves them."""

from __future__ import annotations

HUB = "hf:"
PACKAGE = "pypi:"


def is_source(argument: str) -> bool:
    """Whether an argument is something to pull from elsewhere, rather than a name or a path."""
    return argument.startswith(PACKAGE) or is_remote(argument)


def is_remote(argument: str) -> bool:
    """Whether an argument is an address that shards can be fetched from."""
    return argument.startswith(HUB) or "://" in argument
