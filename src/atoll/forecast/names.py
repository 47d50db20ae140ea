"""Finding things by name: spellings differ in case, dashes and spaces, and people mistype."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from atoll.domain.errors import BadRequest


class Called(Protocol):
    """Something with a name, and others that mean it too."""

    @property
    def name(self) -> str:
        """The name."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names."""
        ...


Item = TypeVar("Item", bound=Called)


def words(text: str) -> str:
    """Letters and digits in lower case, single spaces between."""
    return " ".join(re.findall(r"[a-z0-9.+]+", text.lower()))


class ByName(Generic[Item]):
    """Things of one kind by their names; later ones take the place of earlier ones.

    Args:
        what: The kind, for messages.
        items: The things.
    """

    def __init__(self, what: str, items: Iterable[Item]) -> None:
        self._what = what
        self._items: dict[str, Item] = {}
        for item in items:
            for name in (item.name, *item.aliases):
                self._items[words(name)] = item

    def __iter__(self) -> Iterator[Item]:
        return iter({item.name: item for item in self._items.values()}.values())

    def find(self, name: str) -> Item:
        """The thing of that name.

        Raises:
            BadRequest: There is none; the message names the nearest.
        """
        found = self._items.get(words(name))
        if found is None:
            near = difflib.get_close_matches(words(name), self._items, n=1, cutoff=0.0)
            hint = (
                f"the nearest name is {self._items[near[0]].name!r}" if near else "there are none"
            )
            raise BadRequest(f"no {self._what} is called {name!r}", hint=hint)
        return found

    def get(self, name: str) -> Item | None:
        """The thing of exactly that name; None: there is none."""
        return self._items.get(words(name))

    def find_in(self, text: str) -> Item | None:
        """The thing whose name stands in `text`, by the longest of them; None: none does."""
        padded = f" {words(text)} "
        found = [key for key in self._items if f" {key} " in padded]
        return self._items[max(found, key=len)] if found else None
