"""What Vidur knows of machines: times of operations, measured by its authors on real ones.

They are files of its repository, <https://github.com/microsoft/vidur>, folder
`data/profiling`. Its package has none of them and would fetch them from a hub of data sets
when it runs; here they are laid down as that hub's client keeps what it has fetched, so that
the package runs as it is, without a network.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import dataclass
from pathlib import Path

from atoll.domain.errors import BadRequest

BLOCK_TOKENS = 256
"""It looks up attention for so many tokens of context at a time (its default)."""
ABOUT = "copy them from data/profiling of github.com/microsoft/vidur, with their folders"
_REVISION = "local"


@dataclass(frozen=True, slots=True)
class VidurSetting:
    """The servers that are simulated, by the names that Vidur has for them.

    Each of `replicas` servers has `tensor_parallel` devices of one `node` and takes batches
    of at most `batch_max` requests and `chunk_tokens` tokens, a prompt's next part beside
    the answers under way. Requests have at most `context_tokens` tokens.

    Raises:
        BadRequest: Vidur has no times for such batches.
    """

    model: str = "meta-llama/Llama-2-70b-hf"
    device: str = "a100"
    node: str = "a100_dgx"
    tensor_parallel: int = 2
    replicas: int = 1
    chunk_tokens: int = 512
    batch_max: int = 128
    context_tokens: int = 4096

    def __post_init__(self) -> None:
        counts = (self.tensor_parallel, self.replicas, self.chunk_tokens, self.batch_max)
        if min(counts) < 1:
            raise BadRequest("devices, replicas, batches and chunks are at least 1")
        if self.context_tokens < 1 or self.context_tokens % BLOCK_TOKENS:
            raise BadRequest(f"a context of {self.context_tokens} is no multiple of {BLOCK_TOKENS}")
        if not self.batch_max <= self.chunk_tokens <= self.context_tokens:
            raise BadRequest(
                f"chunks of {self.chunk_tokens} tokens have no room for {self.batch_max} answers,"
                f" or are longer than the context of {self.context_tokens}"
            )


def profile_files(setting: VidurSetting) -> tuple[Path, ...]:
    """What is needed of the folder with profiles; with one device, nothing of its wires."""
    compute = Path("compute", setting.device, *setting.model.split("/"))
    wires = (Path("network", setting.node, "all_reduce.csv"),)
    return (
        *(compute / "mlp.csv", compute / "attention.csv"),
        *(wires if setting.tensor_parallel > 1 else ()),
    )


def lay_profiles(profiles: Path, setting: VidurSetting, caches: Path) -> tuple[Path, str, str]:
    """Lay down what Vidur needs.

    Args:
        profiles: A folder like `data/profiling` of its repository.
        setting: What will be simulated.
        caches: A folder that may be kept: what Vidur learns from profiles stays in it.

    Returns:
        The folder for its caches, one for each content of the profiles; the names of the
        two data sets, of computing and of wires, that are in it.

    Raises:
        BadRequest: A file is missing.
    """
    wanted = profile_files(setting)
    if missing := [str(path) for path in wanted if not (profiles / path).is_file()]:
        raise BadRequest(f"{profiles} lacks {', '.join(missing)}", hint=ABOUT)
    digest = hashlib.sha256(repr(wanted).encode())
    for path in wanted:
        digest.update((profiles / path).read_bytes())
    # Its own caches' names do not tell devices and versions of profiles apart.
    cache = caches / digest.hexdigest()[:16]
    model = f"{setting.device}/{setting.model.replace('/', '-')}"
    _lay(
        cache / "profiling_data" / "compute",
        model,
        [profiles / path for path in wanted[:2]],
        {"model": setting.model, "device_sku": setting.device},
    )
    wires = f"wires/{setting.node}"
    _lay(
        cache / "profiling_data" / "network",
        wires,
        [profiles / path for path in wanted[2:]],
        {"sku": setting.node},
    )
    return cache, model, wires


def _lay(hub: Path, name: str, files: list[Path], config: dict[str, str]) -> None:
    """Lay down a data set as the hub's client keeps one: a revision, and what it is called."""
    root = hub / f"datasets--{name.replace('/', '--')}"
    called = root / "refs" / "main"
    if called.is_file():
        return
    snapshot = root / "snapshots" / _REVISION
    snapshot.mkdir(parents=True, exist_ok=True)
    for file in files:
        (snapshot / f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes(), preset=1))
    (snapshot / "config.json").write_text(json.dumps(config))
    called.parent.mkdir(exist_ok=True)
    called.write_text(_REVISION)
