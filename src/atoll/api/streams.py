"""Which answer a request gets: a new one, or one that goes on with a kept stream."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from starlette.requests import Request

from atoll import __version__
from atoll.api.answer import Answer
from atoll.api.backend import Backend
from atoll.api.chat import ChatForm
from atoll.api.completions import CompletionForm
from atoll.api.errors import ApiError
from atoll.api.form import Form
from atoll.api.held import Held, no_such_stream
from atoll.api.journal import FormName
from atoll.api.keeper import Keeper
from atoll.api.limits import Limits
from atoll.api.params import Job

FINGERPRINT = f"atoll-{__version__}"
IDEMPOTENCY_CHARS_MAX = 255
EVENT_DIGITS_MAX = 15


@dataclass(frozen=True, slots=True)
class Retry:
    """By what a request is known again: the API key's id, the client's key (empty: none),
    and the SHA-256 of what it asks.
    """

    key: str
    idempotency: str = ""
    digest: str = ""


class Streams:
    """Begins answers and goes on with them.

    Args:
        backend: The ring.
        keeper: Keeps streams; None: none are kept, and no request is known again.
        limits: For each request.
    """

    def __init__(self, backend: Backend, keeper: Keeper | None, limits: Limits) -> None:
        self._backend, self._keeper, self._limits = backend, keeper, limits

    def retry_of(self, request: Request, key: str, body: bytes) -> Retry:
        """By what this request would be known again.

        Raises:
            ApiError: 400: the client's key is unusable.
        """
        idempotency = request.headers.get("idempotency-key")
        if idempotency is None:
            return Retry(key)
        if not 1 <= len(idempotency) <= IDEMPOTENCY_CHARS_MAX or not idempotency.isascii():
            raise ApiError(
                f"an idempotency key has 1 to {IDEMPOTENCY_CHARS_MAX} ASCII characters",
                hint="a random UUID will do",
                status=400,
                code="invalid_idempotency_key",
                param="idempotency-key",
            )
        asked = hashlib.sha256(request.url.path.encode() + b"\n" + body)
        return Retry(key, idempotency, asked.hexdigest())

    async def again(self, retry: Retry) -> Answer | None:
        """The answer to an earlier request of the same key, from its start; None: it is new.

        Raises:
            ApiError: The key was used for another request, or its stream cannot be had.
        """
        if self._keeper is None:
            return None
        stream = self._keeper.find(retry.key, retry.idempotency, retry.digest)
        if stream is None:
            return None
        return await self._claim(self._keeper, stream, retry.key)

    def begin(self, job: Job, form: FormName, retry: Retry) -> Answer:
        """A new answer, kept if it is streamed or if the client may ask for it again."""
        written = self._form(job, form)
        held: Held | None = None
        if self._keeper is not None and (job.stream or retry.idempotency):
            held = self._keeper.create(
                job, form, key=retry.key, idempotency=retry.idempotency, digest=retry.digest
            )
        return Answer(self._backend, job, written, self._limits, held=held)

    async def resume(self, request: Request, key: str) -> Answer:
        """The rest of a stream.

        Raises:
            ApiError: 404: there is none for this API key. 400: the number is none.
        """
        if self._keeper is None:
            raise no_such_stream()
        said = request.query_params.get("after", request.headers.get("last-event-id", ""))
        stream = request.path_params["stream"]
        return await self._claim(self._keeper, stream, key, stream=True, after=_number(said))

    async def _claim(
        self, keeper: Keeper, name: str, key: str, *, stream: bool | None = None, after: int = 0
    ) -> Answer:
        head, held = await keeper.claim(name, key)
        form = self._form(head.job, head.form)
        return Answer(
            *(self._backend, head.job, form, self._limits), held=held, stream=stream, after=after
        )

    def _form(self, job: Job, name: FormName) -> Form:
        kind = ChatForm if name == "chat" else CompletionForm
        return kind(job, self._backend.card, FINGERPRINT)


def _number(said: str) -> int:
    """After which event to go on; nothing stands for the beginning.

    Raises:
        ApiError: It is no number.
    """
    if not said:
        return 0
    if not (said.isascii() and said.isdecimal() and len(said) <= EVENT_DIGITS_MAX):
        raise ApiError(
            "the last event's id is not a number that this gateway gave out",
            hint="send the id of the last event in Last-Event-ID or ?after=, or neither",
            status=400,
            code="invalid_event_id",
            param="after",
        )
    return int(said)
