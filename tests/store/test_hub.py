"""Files of the Hub, from a server on loopback that behaves like it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.hub_site import COMMIT, REPO, TOKEN, HubSite, serving_hub
from tests.support.loopback import Site

from atoll.domain.errors import PullFailed
from atoll.store.hub import HubName, find_token, look_up, parse_name
from atoll.store.layout import Store, sha256_of
from atoll.store.pull import pull
from atoll.store.web import Limits, Unreachable

pytestmark = pytest.mark.network

CONTENT = b"GGUF and more" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def quick() -> Limits:
    return Limits(backoff_s=0.0, wait=lambda _s: None)


@pytest.fixture
def hub() -> Iterator[HubSite]:
    with serving_hub(HubSite(Site(CONTENT))) as site:
        yield site


@pytest.fixture
def model_hub(
    random_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubSite]:
    """A Hub with a model; this process's own settings lead to it."""
    with serving_hub(HubSite(Site(random_model().read_bytes()))) as site:
        for key in ("HF_TOKEN", "HF_TOKEN_PATH"):
            monkeypatch.delenv(key, raising=False)
        for key, value in site.environment.items():
            monkeypatch.setenv(key, value)
        yield site


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf:a/b/c.gguf", HubName("a/b", "c.gguf", "main")),
        ("hf:a/b/d/e/c.GGUF@v1", HubName("a/b", "d/e/c.GGUF", "v1")),
        ("hf:A-1/b_2.x/c d.gguf@refs/pr/3", HubName("A-1/b_2.x", "c d.gguf", "refs/pr/3")),
    ],
)
def test_names(source: str, name: HubName) -> None:
    assert parse_name(source) == name
    assert parse_name(str(name)) == name


@pytest.mark.parametrize(
    "source",
    [
        *("hf:", "hf:a", "hf:a/b", "hf:a/b/c", "hf:a/b/c.bin", "hf:a//c.gguf", "hf:/b/c.gguf"),
        *("hf:a/../c.gguf", "hf:a/b/../c.gguf", "hf:a/b/./c.gguf", "hf:a/b/c.gguf@"),
        *("hf:a/b/c.gguf@x@y", "hf:a b/c/d.gguf", "hf:a?/b/c.gguf", "hf:a/b//c.gguf"),
    ],
)
def test_other_forms_are_refused(source: str) -> None:
    with pytest.raises(PullFailed) as caught:
        parse_name(source)
    assert "hf:ORG/REPO" in caught.value.hint


def test_one_part_of_a_split_model_is_refused_before_it_is_pulled() -> None:
    with pytest.raises(PullFailed, match="one part"):
        parse_name("hf:a/b/m-00001-of-00003.gguf")


def test_a_file_is_found_with_commit_hash_and_size(hub: HubSite) -> None:
    found = look_up(parse_name(hub.source), environment=hub.environment)
    assert found.address.url == f"{hub.url}/{REPO}/resolve/{COMMIT}/{hub.path}"
    assert (found.sha256, found.size_bytes) == (SHA256, len(CONTENT))
    assert [method for method, _, _ in hub.seen] == ["HEAD"]
    assert hub.cdn.seen == []


def test_a_revision_with_slashes_is_one_part_of_the_path(hub: HubSite) -> None:
    look_up(parse_name(f"{hub.source}@refs/pr/2"), environment=hub.environment)
    assert hub.seen[0][1] == f"/{REPO}/resolve/refs%2Fpr%2F2/{hub.path}"


def test_what_is_no_sha256_is_not_taken_for_one(hub: HubSite) -> None:
    hub.said_sha256 = "9f8e" * 10
    found = look_up(parse_name(hub.source), environment=hub.environment)
    assert found.sha256 == ""


def test_a_hub_that_names_no_commit_is_asked_by_revision(hub: HubSite) -> None:
    hub.commit = ""
    found = look_up(parse_name(f"{hub.source}@v1"), environment=hub.environment)
    assert "/resolve/v1/" in found.address.url


@pytest.mark.parametrize("where", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"])
def test_the_token_is_found_where_the_hubs_tools_put_it(
    hub: HubSite, tmp_path: Path, where: str
) -> None:
    hub.private = True
    folder = tmp_path / "huggingface" if where == "XDG_CACHE_HOME" else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(f"{TOKEN}\n")
    value = {
        "HF_TOKEN": f" {TOKEN}\n",
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }[where]
    found = look_up(
        parse_name(hub.source), environment={"HF_ENDPOINT": f"{hub.url}/", where: value}
    )
    assert found.sha256 == SHA256
    assert TOKEN not in repr(found)


def test_no_token_is_no_error(tmp_path: Path) -> None:
    assert find_token({"HF_HOME": str(tmp_path)}) == ""


@pytest.mark.parametrize("content", [b"two words", b"\xff\xfe", b"line\nline", "tökén".encode()])
def test_a_file_that_holds_no_token_is_told_but_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(PullFailed) as caught:
        find_token({"HF_HOME": str(tmp_path)})
    assert str(tmp_path / "token") in str(caught.value)
    assert content.decode("utf-8", "replace") not in str(caught.value)


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(PullFailed, match="cannot read the token"):
        find_token({"HF_HOME": str(tmp_path)})


def refusal(hub: HubSite, source: str, token: str = "") -> PullFailed:
    with pytest.raises(Unreachable) as caught:
        look_up(parse_name(source), environment={**hub.environment, "HF_TOKEN": token})
    assert len(hub.seen) == 1
    assert TOKEN not in str(caught.value)
    return caught.value


def test_a_wrong_name(hub: HubSite) -> None:
    told = refusal(hub, "hf:org/nothing/m.gguf")
    assert "has no org/nothing, or it is private" in told.problem
    assert "HF_TOKEN" in told.hint
    hub.seen.clear()
    assert "has no org/nothing" in refusal(hub, "hf:org/nothing/m.gguf", TOKEN).problem


def test_a_private_repository(hub: HubSite) -> None:
    hub.private = True
    assert "or it is private" in refusal(hub, hub.source).problem


def test_a_wrong_token(hub: HubSite) -> None:
    told = refusal(hub, hub.source, "hf_wrong")
    assert "refuses the token" in told.problem
    assert "hf_wrong" not in str(told)


def test_a_gate_before_and_after_the_token(hub: HubSite) -> None:
    hub.gated, hub.granted = True, False
    told = refusal(hub, hub.source)
    assert "is gated" in told.problem
    assert f"accept its conditions at {hub.url}/{REPO}" in told.hint
    assert "HF_TOKEN" in told.hint
    hub.seen.clear()
    told = refusal(hub, hub.source, TOKEN)
    assert "is gated" in told.problem
    assert "HF_TOKEN" not in told.hint


def test_a_wrong_revision_and_a_wrong_file(hub: HubSite) -> None:
    assert "no revision 'v9'" in refusal(hub, f"{hub.source}@v9").problem
    hub.seen.clear()
    told = refusal(hub, f"hf:{REPO}/other.gguf@v1")
    assert "no file 'other.gguf' at 'v1'" in told.problem
    assert told.hint.endswith(f"{REPO}/tree/v1")


def test_a_busy_hub_is_waited_for(hub: HubSite) -> None:
    hub.statuses, hub.status_headers = [429, 503], {"Retry-After": "3"}
    waits: list[float] = []
    limits = Limits(wait=waits.append)
    assert look_up(parse_name(hub.source), environment=hub.environment, limits=limits).sha256
    assert waits == [3.0, 3.0]


def test_a_hub_that_is_not_there(hub: HubSite) -> None:
    with pytest.raises(Unreachable, match="broke off 6 times"):
        look_up(
            parse_name(hub.source),
            environment={**hub.environment, "HF_ENDPOINT": "http://127.0.0.1:9"},
            limits=quick(),
        )


def test_an_endpoint_must_be_safe(hub: HubSite) -> None:
    with pytest.raises(Unreachable, match="https"):
        look_up(parse_name(hub.source), environment={"HF_ENDPOINT": "http://192.0.2.1"})
    assert hub.seen == []


class TestPull:
    """The whole way into the store."""

    def test_a_model_is_pulled_by_its_commit(
        self, model_hub: HubSite, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        model_hub.private, model_hub.cdn.breaks = True, 2
        caplog.set_level(logging.DEBUG)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", TOKEN)
            pulled = pull(model_hub.source, store=store, limits=quick())
        assert pulled.path.read_bytes() == model_hub.cdn.content
        assert pulled.name == "model.q4"
        [entry] = store.models()
        assert entry.source == model_hub.source
        assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in model_hub.seen[1:])
        assert {h["authorization"] for _, _, h in model_hub.seen} == {f"Bearer {TOKEN}"}
        assert all("authorization" not in headers for headers in model_hub.cdn.seen)
        assert model_hub.cdn.seen[1]["range"].startswith("bytes=")
        ours = [r.getMessage() for r in caplog.records if r.name.startswith("atoll")]
        assert TOKEN not in "".join(ours)
        kept = [p.read_bytes() for p in store.home.rglob("*.json")]
        assert TOKEN.encode() not in b"".join(kept)

    def test_what_is_here_is_not_pulled_again(self, model_hub: HubSite, store: Store) -> None:
        assert pull(model_hub.source, store=store).fresh
        again = pull(f"{model_hub.source}@v1", store=store)
        assert not again.fresh
        assert len(model_hub.cdn.seen) == 1

    def test_other_content_than_the_hub_says_is_not_kept(
        self, model_hub: HubSite, store: Store
    ) -> None:
        model_hub.said_sha256 = "0" * 64
        with pytest.raises(PullFailed, match="not the wanted 0000"):
            pull(model_hub.source, store=store, limits=quick())
        assert store.models() == []

    def test_another_hash_than_wanted_is_told_before_the_download(
        self, model_hub: HubSite, store: Store
    ) -> None:
        with pytest.raises(PullFailed, match="not the wanted 1111"):
            pull(model_hub.source, store=store, sha256="1" * 64)
        assert model_hub.cdn.seen == []

    def test_a_file_that_changes_between_two_ranges_does_not_enter(
        self, model_hub: HubSite, store: Store
    ) -> None:
        cdn, first = model_hub.cdn, model_hub.cdn.content
        cdn.breaks = 1

        def change() -> None:
            if len(cdn.seen) == 2:
                cdn.content, cdn.etag = bytes(reversed(first)), '"two"'

        model_hub.said_sha256 = hashlib.sha256(first).hexdigest()
        cdn.before = change
        with pytest.raises(PullFailed, match="not the wanted"):
            pull(model_hub.source, store=store, limits=quick())
        assert store.models() == []

    def test_ranges_ignored_silence_and_a_busy_cdn(self, model_hub: HubSite, store: Store) -> None:
        model_hub.cdn.ranges, model_hub.cdn.breaks = False, 1
        model_hub.cdn.stalls, model_hub.cdn.statuses = 1, [503]
        limits = Limits(backoff_s=0.0, wait=lambda _s: None, silence_s=0.2)
        pulled = pull(model_hub.source, store=store, limits=limits)
        assert pulled.model == sha256_of(pulled.path)

    def test_a_hub_without_a_hash_is_believed_by_name_only(
        self, model_hub: HubSite, store: Store
    ) -> None:
        model_hub.said_sha256 = "9f8e" * 10
        assert pull(model_hub.source, store=store).fresh
        # The size is then all there is to compare.
        model_hub.said_size = 17
        with pytest.raises(PullFailed, match="instead of 17"):
            pull(model_hub.source, store=Store(store.home / "two"))
