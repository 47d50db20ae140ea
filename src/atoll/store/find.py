"""A MODEL argument that may be a name here, or a source to pull from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from atoll.domain.ids import ModelId
from atoll.store.layout import FoundModel, Store, model_name
from atoll.store.pull import pull
from atoll.store.sources import is_source


def find_or_pull(
    argument: str,
    store: Store,
    *,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> FoundModel:
    """The model that `argument` stands for, pulled first if it is a source.

    A source that was pulled before is not asked again.

    Args:
        argument: What `Store.resolve` takes, or a source from elsewhere, as for `pull`.
        store: Where models lie.
        progress: As for `pull`.

    Raises:
        UnknownModel: There is no such model here.
        PullFailed: It could not be brought here.
        BadModel: It is no sound model.
    """
    if not is_source(argument):
        path = Path(argument).expanduser()
        # A file of the store itself goes by its name there, not by its hash.
        stored = store.model_of(path) if path.is_file() else None
        return store.resolve(stored or argument)
    here = next((m for m in store.models() if m.source == argument), None)
    if here is not None:
        name = here.names[0] if here.names else here.model[:12]
        return FoundModel(here.model, store.model_path(here.model), name)
    pulled = pull(argument, store=store, progress=progress)
    return FoundModel(pulled.model, pulled.path, pulled.name)


def give_name(store: Store, model: ModelId, name: str) -> str:
    """Call a stored model by a further name, which becomes its first; returns it as kept."""
    entry = next(m for m in store.models() if m.model == model)
    kept = store.remember(msgspec.structs.replace(entry, names=(model_name(name),)))
    return kept.names[0]
