"""`atoll lpu show` as its user sees it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.cli.conftest import Run

MODEL = """
[[models]]
name = "Small"
layers = 2
hidden = 350
heads = 4
kv_heads = 2
head_dim = 32
ffn = 700
vocab = 150
source = "made"
"""


@pytest.fixture
def asked(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "small.toml"
    path.write_text(MODEL)
    return ("lpu", "show", str(path), "--chips", "1", "--context", "40")


def test_a_picture_on_standard_output(run_plainly: Run, asked: tuple[str, ...]) -> None:
    done = run_plainly(*asked, "--part", "attention")
    assert done.code == 0
    root = ElementTree.fromstring(done.out)
    [title] = root.iterfind("{*}title")
    assert (title.text or "").startswith(
        "Small, weights of f16: a layer's attention block on a chip"
    )


def test_a_page_into_a_file(run_plainly: Run, asked: tuple[str, ...], tmp_path: Path) -> None:
    page = tmp_path / "token.html"
    done = run_plainly(*asked, "--part", "token", "-o", str(page))
    assert (done.code, done.out) == (0, "")
    assert "all 5 steps of a token on chip 0 of 8" in done.err
    assert "attention, layer 1" in page.read_text()


def test_what_cannot_be_drawn(run_plainly: Run, asked: tuple[str, ...], tmp_path: Path) -> None:
    done = run_plainly(*asked, "-o", str(tmp_path / "a.txt"))
    assert done.code == 2
    assert "'a.txt'" in done.err
    assert "compiling" not in done.err
    done = run_plainly(*asked, "--chip", "3")
    assert done.code == 2
    assert "1 chips share a layer" in done.err
