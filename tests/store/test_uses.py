"""Files in use, and what holds them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from atoll.store.uses import claimed, hold, use_path


def is_free(path: Path) -> bool:
    with claimed([use_path(path)]) as is_ours:
        return is_ours


def test_a_held_file_cannot_be_claimed_until_all_have_released_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "1-4.gguf"
    one, two = hold(path), hold(path)
    assert not is_free(path)
    one.release()
    one.release()
    assert not is_free(path)
    two.release()
    assert is_free(path)
    assert not path.exists()


def test_the_time_of_use_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "1-4.gguf"
    hold(path).release()
    os.utime(use_path(path), (1000, 1000))
    hold(path).release()
    assert use_path(path).stat().st_mtime > 1000


def test_several_locks_are_claimed_together_or_not_at_all(tmp_path: Path) -> None:
    free, held = tmp_path / "a.gguf", tmp_path / "b.gguf"
    holding = hold(held)
    with claimed([use_path(free), use_path(held)]) as is_ours:
        assert not is_ours
    with claimed([use_path(free)]) as is_ours:
        assert is_ours
        assert not is_free(free)
    holding.release()
    with claimed([]) as is_ours:
        assert is_ours


def test_a_process_that_dies_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "1-4.gguf"
    program = (
        "import sys; from pathlib import Path; from atoll.store.uses import hold\n"
        "held = hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert not is_free(path)
        process.kill()
    assert is_free(path)
