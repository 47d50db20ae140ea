"""One process of a role for each home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atoll.net.home import HomeInUse, held_home, is_home_held
from atoll.net.private_file import PrivateFileFault

HOLD = (
    "import sys; from pathlib import Path; from atoll.net.home import held_home\n"
    "with held_home(Path(sys.argv[1]), 'gateway'):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


def test_a_home_is_held_once_for_each_role(tmp_path: Path) -> None:
    home = tmp_path / "new"
    assert not is_home_held(home, "gateway")
    with held_home(home, "gateway"):
        assert is_home_held(home, "gateway")
        assert not is_home_held(home, "node")
        with pytest.raises(HomeInUse, match="a gateway already runs"):
            held_home(home, "gateway").__enter__()
        with held_home(home, "node"):
            assert is_home_held(home, "node")
    assert not is_home_held(home, "gateway")
    with held_home(home, "gateway"):
        assert is_home_held(home, "gateway")


def test_looking_does_not_bar_another(tmp_path: Path) -> None:
    with held_home(tmp_path, "node"):
        pass
    assert not is_home_held(tmp_path, "node")
    with held_home(tmp_path, "node"):
        assert is_home_held(tmp_path, "node")


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_home_held(tmp_path, "gateway")
        holder.kill()
        holder.wait(timeout=10)
    assert not is_home_held(tmp_path, "gateway")


def test_a_home_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PrivateFileFault, match="cannot use"):
        held_home(tmp_path / "file", "node").__enter__()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").touch()
    (tmp_path / "run" / "node.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PrivateFileFault):
        held_home(tmp_path, "node").__enter__()
    with pytest.raises(PrivateFileFault):
        is_home_held(tmp_path, "node")
