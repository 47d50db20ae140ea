"""`make bench-vidur`: an environment of its own for Vidur, which simulates servers of models.

It is installed from its wheel, which only exists for Linux on x86-64, with the versions in
`data/vidur_environment.txt`: about two minutes and 700 MB. The step times that it was
profiled with are in no package: `vidur_profiles` says where they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from bench.build_peers import FOLDER_VARIABLE, check_archive

PACKAGE, VERSION = "vidur", "0.0.26"
SHA256 = {
    (3, 11): "b31aec590ec37b155aa279870854e84dff11f363a22768e5fa9b3ac0076bc80e",
    (3, 12): "70e96999901d324520f891f9881fd414e791e035ea3fd79d0e5ed05a262df69f",
    (3, 13): "aca89f02c34baa204865d6dbc3c13483eac4d9b501fc21a6005140cf1bac1c4f",
}
"""Of its wheel, by the version of Python."""
PINS = Path(__file__).parent / "data" / "vidur_environment.txt"
_ROOT = Path(__file__).parents[1]
_WHOLE = "whole"
"""A file that is written last, so that half an environment is made anew."""


def vidur_folder() -> Path:
    """Where the environment is, or will be: beside other peers if their folder is named."""
    named = os.environ.get(FOLDER_VARIABLE)
    peers = Path(named) if named else _ROOT / ".cache" / "peers"
    return peers / f"{PACKAGE}-{VERSION}"


def built_vidur() -> Path | None:
    """The environment's Python; None where it is not there, or not whole."""
    folder = vidur_folder()
    return folder / "bin" / "python" if (folder / _WHOLE).is_file() else None


def build(target: Path) -> None:
    """Make the environment in `target`.

    Raises:
        SystemExit: There is no wheel for this Python, or it is another one.
    """
    if (wanted := SHA256.get(sys.version_info[:2])) is None:
        known = ", ".join(f"{major}.{minor}" for major, minor in SHA256)
        raise SystemExit(f"{PACKAGE} {VERSION} is known here for Python {known} only")
    shutil.rmtree(target, ignore_errors=True)
    venv.create(target, with_pip=True)
    pip = [str(target / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(prefix="atoll-vidur-") as name:
        subprocess.run(
            [
                *(*pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
                *("--dest", name, f"{PACKAGE}=={VERSION}"),
            ],
            check=True,
        )
        [wheel] = Path(name).glob("*.whl")
        check_archive(wheel, wanted)
        # The pins are all that it needs; what the wheel asks for besides draws plots.
        subprocess.run(
            [*pip, "install", "--quiet", "--no-deps", "-r", str(PINS), str(wheel)], check=True
        )
    (target / _WHOLE).touch()


def main() -> None:
    """Make what is not there."""
    if (here := built_vidur()) is not None:
        print(f"Vidur runs with {here}")
        return
    began_s = time.monotonic()
    build(vidur_folder())
    minutes = (time.monotonic() - began_s) / 60
    print(f"Vidur runs with {built_vidur()}; that took {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
