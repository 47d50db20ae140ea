"""How the project is laid out: tests mirror the source, sizes are bounded, no leftovers."""

from __future__ import annotations

import ast
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "atoll"
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

TESTED_ELSEWHERE = {
    "__main__.py": "one call of the command line's main",
    "cli/serving_tables.py": "tests/cli/test_simulate_serving.py reads its tables",
    "client/replies.py": "structs; tests/client/test_api.py reads answers into them",
    "domain/bits.py": "a struct; tests/engine/test_numeric_class.py makes some",
    "domain/control.py": "structs; what may be in them is checked in tests/net/test_frames.py",
    "domain/errors.py": "classes; every test of a refusal raises one",
    "domain/generation.py": "structs",
    "domain/ids.py": "names of types",
    "domain/wire.py": "structs; lengths and ranges are checked in tests/net/test_frames.py",
    "engine/draft_messages.py": "structs",
    "engine/ends_messages.py": "structs",
    "engine/llama_abi.py": "made by engine/cdef.py; tests/engine/test_cdef.py compares",
    "engine/parcel_messages.py": "structs",
    "engine/serving.py": "the entry of four processes, each of which has a test file",
    "engine/stage_messages.py": "structs",
    "ring/parking_messages.py": "structs",
    "api/backend.py": "protocols and structs",
    "api/form.py": "a protocol and a struct; each endpoint's test file writes answers with its own",
    "api/held.py": "tests/api/test_keeper.py holds streams, test_streams.py tells them",
    "gateway/options.py": "structs",
    "gateway/ground.py": "structs",
    "gateway/lap_watch.py": "tests/e2e/test_link_times.py and test_api.py read what it measures",
    "gateway/new_driver.py": "one call; every test of a ring makes one",
    "gateway/standing_by.py": "tests/e2e/test_failover.py has a node stand by and take a part",
    "gateway/trouble.py": "passes on; tests/world lets it forget",
    "node/stage_complaints.py": "tests/node/test_stage_driver.py sends what is refused",
    "node/stage_engine.py": "tests/node/test_stage_host.py loads with it",
    "node/stage_links.py": "passes on; tests/node/test_stage_driver.py sends frames over both",
    "node/standbys.py": "tests/e2e/test_failover.py has a node stand by and take a part",
    "ring/comeback_messages.py": "structs",
    "ring/results.py": "tests/ring/test_coordinator.py gives it every answer of the ends",
    "ring/stage_outbox.py": "tests/ring/test_stage.py and test_stage_comeback.py",
    "ring/stage_queue.py": "tests/ring/test_stage.py and test_stage_turns.py",
    "ring/stage_slots.py": "tests/ring/test_stage.py",
    "sim/fake_record.py": "raises where a machine is wrong; tests/sim/test_ring_sim.py runs it",
    "gateway/ring_link.py": "passes on; tests/gateway/test_ring_driver.py sends frames over both",
    "node/hearing.py": "tests/node/test_daemon.py and test_memory_daemon.py hear with it",
    "node/workshop.py": "a struct; every node of tests/node and tests/e2e works with it",
    "world/connection.py": "tests/world/test_network.py connects machines with it",
    "world/gateway.py": "lives in every run of tests/world/test_system_sim.py",
    "world/lives.py": "tests/world/test_faults.py ends and begins them",
    "world/machine.py": "tests/world/test_governed.py and test_engines.py use one",
    "world/model.py": "numbers; every run of tests/world/test_system_sim.py serves it",
    "world/node.py": "lives in every run of tests/world/test_system_sim.py",
    "world/register.py": "every gateway of tests/world/test_system_sim.py has it",
    "world/transport.py": "every link of tests/world/test_system_sim.py is made by it",
    "world/worker.py": "tests/world/test_campaign.py runs it",
    "net/message_link.py": "what bulk, timing and memory links share, each of which is tested",
    "api/replies.py": "structs; tests/api/test_openai_client.py holds them to the API",
    "sim/serving/streams.py": "a record; tests/sim/serving/test_replica.py plays with it",
    "sim/serving/requests.py": "a struct; tests/sim/serving/test_traces.py reads into it",
}
"""Source files without a test file of their own, and why."""

PIECES = {
    "path of a machine": r"(?:^|[^\w./-])/(?:home|root|work|mnt|tmp)/\w",
    "host of a package registry": r"\b(?:pypi|pythonhosted|npmjs|crates|anaconda)\.(?:org|io)\b",
    "address of a package index": r"\b(?:extra-)?index-url\b|--find-links",
    "marker left behind": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b",
    "exception swallowed": r"except (?:Base)?Exception: *pass\b",
    "unpickling": r"\bpickle\.loads?\b",
}
FORBIDDEN = {what: re.compile(pattern, re.MULTILINE) for what, pattern in PIECES.items()}
SLEEP = re.compile(r"\btime\.sleep\(")
TEXTS = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".cfg", ".ini", ""}


def tracked() -> list[Path]:
    """Files under version control, or all that look like it in an unpacked archive."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        tops = [p for p in ROOT.iterdir() if not p.name.startswith(".")]
        folders = [p for p in tops if p.name in {"bench", "docs", "src", "tests"}]
        files = [p for p in tops if p.is_file()]
        found = files + [p for folder in folders for p in folder.rglob("*") if p.is_file()]
        return [p for p in found if "__pycache__" not in p.parts and "_build" not in p.parts]
    return [path for name in listed.splitlines() if (path := ROOT / name).is_file()]


def source_files() -> list[Path]:
    return sorted(p for p in SOURCE.rglob("*.py") if p.name != "__init__.py")


def parse(text: str) -> ast.Module:
    """The tree of a file. Python 3.11 can fail on it while another thread parses too
    (gh-106905), as hypothesis does in the background.
    """
    for _ in range(10):
        try:
            return ast.parse(text)
        except SystemError:
            time.sleep(0.1)
    return ast.parse(text)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def mirror(name: str) -> Path:
    """Test file of a source file that is named by its path in the package."""
    return ROOT / "tests" / Path(name).parent / f"test_{Path(name).name}"


def test_every_module_has_its_test_file_or_a_reason() -> None:
    names = [path.relative_to(SOURCE).as_posix() for path in source_files()]
    missing = [n for n in names if not mirror(n).exists() and n not in TESTED_ELSEWHERE]
    assert not missing, f"without tests/<package>/test_<module>.py: {missing}"


def test_no_exception_is_needless() -> None:
    excused = sorted(TESTED_ELSEWHERE)
    assert not (gone := [n for n in excused if not (SOURCE / n).exists()]), f"no such file: {gone}"
    assert not (paid := [n for n in excused if mirror(n).exists()]), f"have a test file: {paid}"


def test_sizes_are_bounded() -> None:
    long = []
    for path in (*source_files(), *(ROOT / "bench").rglob("*.py")):
        text = path.read_text()
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for function in functions(parse(text)):
            size = (function.end_lineno or function.lineno) - function.lineno + 1
            if size > FUNCTION_LINES_MAX:
                long.append(f"{path.relative_to(ROOT)}: {function.name}, {size} lines")
    assert long == []


def test_nothing_forbidden_is_left_in_the_texts() -> None:
    found = []
    for path in tracked():
        if path.suffix not in TEXTS or path == Path(__file__):
            continue
        text = path.read_text()
        found += [
            f"{path.relative_to(ROOT)}: {what}: {match[0].strip()!r}"
            for what, pattern in FORBIDDEN.items()
            for match in pattern.finditer(text)
        ]
        if path.is_relative_to(SOURCE):
            found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in SLEEP.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /ho" + "me/me/x", "path of a machine"),
        ("https://py" + "pi.org/simple", "host of a package registry"),
        ("# TO" + "DO later", "marker left behind"),
        ("except Exception:" + " pass", "exception swallowed"),
    ],
)
def test_what_is_forbidden_is_recognised(text: str, what: str) -> None:
    assert FORBIDDEN[what].search(text)


def test_documents_name_only_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        if "_build" in page.parts:
            continue
        named = set(re.findall(r"`make ([\w-]+)", page.read_text()))
        named |= set(re.findall(r"^make ([\w-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page
