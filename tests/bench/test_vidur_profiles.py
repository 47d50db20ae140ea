"""Vidur's profiles, laid down as the client of its hub would keep them."""

from __future__ import annotations

import dataclasses
import json
import lzma
from pathlib import Path

import pytest
from bench.vidur_profiles import VidurSetting, lay_profiles, profile_files

from atoll.domain.errors import BadRequest

SETTING = VidurSetting()


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    for path in profile_files(SETTING):
        file = tmp_path / "profiles" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"a,b\n{path.name},2\n")
    return tmp_path / "profiles"


def test_files_lie_where_the_client_looks(profiles: Path, tmp_path: Path) -> None:
    cache, model, wires = lay_profiles(profiles, SETTING, tmp_path / "caches")
    for hub, name, files, key in (
        ("compute", model, ("mlp", "attention"), "device_sku"),
        ("network", wires, ("all_reduce",), "sku"),
    ):
        assert name.count("/") == 1
        root = cache / "profiling_data" / hub / f"datasets--{name.replace('/', '--')}"
        snapshot = root / "snapshots" / (root / "refs" / "main").read_text()
        assert json.loads((snapshot / "config.json").read_text())[key] in {"a100", "a100_dgx"}
        for file in files:
            text = lzma.decompress((snapshot / f"{file}.csv.xz").read_bytes()).decode()
            assert text == f"a,b\n{file}.csv,2\n"


def test_what_was_learned_is_kept_for_the_same_profiles_only(
    profiles: Path, tmp_path: Path
) -> None:
    caches = tmp_path / "caches"
    before = lay_profiles(profiles, SETTING, caches)
    assert lay_profiles(profiles, SETTING, caches) == before
    assert lay_profiles(profiles, dataclasses.replace(SETTING, replicas=3), caches) == before
    (profiles / profile_files(SETTING)[1]).write_text("a,b\n1,3\n")
    assert lay_profiles(profiles, SETTING, caches)[0] != before[0]


def test_a_missing_file_is_named(profiles: Path, tmp_path: Path) -> None:
    (profiles / "network/a100_dgx/all_reduce.csv").unlink()
    with pytest.raises(BadRequest, match=r"lacks network/a100_dgx/all_reduce\.csv"):
        lay_profiles(profiles, SETTING, tmp_path / "caches")
    lay_profiles(profiles, dataclasses.replace(SETTING, tensor_parallel=1), tmp_path / "caches")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"replicas": 0}, "at least 1"),
        ({"context_tokens": 4000}, "no multiple of 256"),
        ({"chunk_tokens": 64}, "no room for 128 answers"),
        ({"chunk_tokens": 8192}, "longer than the context"),
    ],
)
def test_settings_that_vidur_has_no_times_for(changed: dict[str, int], problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        VidurSetting(**changed)  # type: ignore[arg-type]
