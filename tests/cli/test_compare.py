"""`atoll compare` as its user sees it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.conftest import MakeModel

CARD = """
[[devices]]
name = "Reef card"
kind = "gpu"
vendor = "NVIDIA"
memory = "48 GiB"
memory_kind = "GDDR6"
bandwidth = "1200 GB/s"
fp16 = "100 TFLOPS"
power = "250 W"
hourly = "0.5 USD/h"
source = "weighed by hand"
"""


def test_the_shipped_fleets(run_plainly: Run) -> None:
    done = run_plainly("compare", "--model", "Llama-3.1-70B", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["model"] == "Llama-3.1-70B"
    by_name = {fleet["fleet"]: fleet for fleet in found["fleets"]}
    assert len(by_name) == 9
    assert by_name["8xh100"]["token_s"] < by_name["6-rented"]["token_s"]
    assert all(fleet["error_p90"] > 0 for fleet in by_name.values() if not fleet["problem"])


def test_the_table(run: Run) -> None:
    done = run(
        *("compare", "--model", "Llama-3.1-70B", "--slo", "tpot<30ms", "--rate", "5/s"),
        *("8xh100", "6 x RTX 4090 @ 40ms", "1 x H100 SXM"),
    )
    assert done.code == 0
    assert "Llama-3.1-70B, 4.8" in done.out
    assert done.err.count("6 x RTX 4090 @ 40ms: bound by tpot: a token takes") == 1
    assert "1 x H100 SXM" in done.out
    assert "bound by" in done.out
    assert re.search(
        r"8xh100: bound by tpot: a token takes 30\.\d+ ms with [\d,]+ streams", done.err
    )


def test_what_breaks_first(run: Run) -> None:
    done = run("compare", "--model", "Llama-3.1-70B", "--json", "8xh100", "lpu")
    server, lpu = json.loads(done.out)["fleets"]
    assert server["limit"]["bound"] == "memory"
    assert "GiB for caches, full with" in server["limit"]["figure"]
    assert lpu["limit"] is None
    # A stream alone and all at once are forecast by models of their own.
    assert server["alone_error_p90"] != server["error_p90"]


def test_models_and_devices_of_ones_own(run: Run, tmp_path: Path, random_model: MakeModel) -> None:
    cards = tmp_path / "cards.toml"
    cards.write_text(CARD)
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_attention_heads": 32,
                "num_hidden_layers": 32,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
            }
        )
    )
    asked = ("Reef card", "--devices", str(cards), "--json")
    for model in (str(config), str(random_model("llama", n_layers=6))):
        done = run("compare", "--model", model, *asked)
        assert done.code == 0, done.err
        [fleet] = json.loads(done.out)["fleets"]
        assert fleet["usd_per_hour"] == 0.5
        assert fleet["tokens_per_s"] > 0


@pytest.mark.parametrize(
    ("name", "begin"), [("a.html", b"<!doctype"), ("a.svg", b"<?xml"), ("a.png", b"\x89PNG")]
)
def test_a_report(run: Run, tmp_path: Path, name: str, begin: bytes) -> None:
    path = tmp_path / name
    asked = ("--model", "Llama-3.1-8B", "--slo", "tpot<30ms", "--rate", "5/s", "8xh100", "lpu")
    done = run("compare", *asked, "--json", "--report", str(path))
    assert done.code == 0, done.err
    assert path.read_bytes().startswith(begin)
    # What goes to standard output is as without it.
    assert done.out == run("compare", *asked, "--json").out
    assert f"report: {path}" in done.err


def test_names_in_a_report_are_no_markup(run: Run, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)> $x_{ \x1b"
    cards = tmp_path / "cards.toml"
    cards.write_text(CARD.replace("Reef card", name.replace("\x1b", "\\u001b")))
    path = tmp_path / "fleets.html"
    asked = ("--model", "Llama-3.1-8B", "--devices", str(cards), "--report", str(path))
    done = run("compare", *asked, f"2 x {name}")
    assert done.code == 0, done.err
    page = path.read_text("utf-8")
    assert "<img" not in page
    assert "\x1b" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; $x_{" in page


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("fleets.pdf", "a report cannot be written as 'fleets.pdf'"),
        ("away/fleets.html", "there is no folder"),
        ("taken.html", "cannot write"),
    ],
)
def test_reports_that_cannot_be(run: Run, tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "taken.html").mkdir()
    done = run("compare", "--model", "Llama-3.1-8B", "8xh100", "--report", str(tmp_path / name))
    assert done.code == 2
    assert problem in done.err
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["taken.html"]


def test_a_report_without_matplotlib(run_plainly: Run, tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "matplotlib"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'matplotlib'\")"
    )
    path = os.pathsep.join(filter(None, [str(absent.parent), os.environ.get("PYTHONPATH", "")]))
    asked = ("compare", "--model", "Llama-3.1-8B", "8xh100")
    done = run_plainly(*asked, "--report", str(tmp_path / "a.html"), PYTHONPATH=path)
    assert done.code == 2
    assert "charts need matplotlib" in done.err
    assert "pip install 'atoll[charts]'" in done.err
    assert done.out == ""
    # Without a report it is not needed.
    assert run_plainly(*asked, PYTHONPATH=path).code == 0


def test_nothing_of_charts_is_imported_without_a_report() -> None:
    heavy = "{'matplotlib', 'jinja2', 'PIL'} & set(sys.modules)"
    code = f"import sys, atoll.cli.compare; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--model", "Lama-3.1-70B"), "the nearest name is 'Llama-3.1-70B'"),
        (("--model", "Llama-3.1-70B", "8 x H100 SMX"), "the nearest name is"),
        (("--model", "Llama-3.1-70B", "--slo", "tpot<30"), "has no unit"),
        (("--model", "Llama-3.1-70B", "--rate", "5"), "is no rate"),
        (("--model", "Llama-3.1-70B", "--precision", "Q17"), "no known precision"),
        (("--model", "Llama-3.1-70B", "--devices", "nowhere.toml"), "cannot read nowhere.toml"),
        (("--model", "nowhere.json"), "cannot read nowhere.json"),
    ],
)
def test_what_is_refused(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    done = run("compare", *arguments)
    assert done.code != 0
    assert problem in done.err


def test_files_that_are_no_descriptions(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_text("")
    assert "describes 0 models" in run("compare", "--model", str(path)).err
    path.write_bytes(b"\xff\xfe\x00")
    assert "is no text" in run("compare", "--model", str(path)).err
    path.write_text("#" * (1 << 21))
    assert "too large" in run("compare", "--model", str(path)).err
