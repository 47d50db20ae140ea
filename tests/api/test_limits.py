"""Counting requests in progress."""

from __future__ import annotations

import pytest

from atoll.api.errors import ApiError
from atoll.api.limits import Limits, RequestLimiter, check_headers


def test_a_place_is_given_back_whatever_happens() -> None:
    limiter = RequestLimiter(Limits(requests_per_key_max=1))
    with pytest.raises(ValueError, match="x"), limiter.slot("a"):
        raise ValueError("x")
    with limiter.slot("a"), limiter.slot("b"):
        pass
    with limiter.slot("a"):
        pass


def test_each_key_and_all_together_are_bounded() -> None:
    limiter = RequestLimiter(Limits(requests_per_key_max=2, requests_max=3))
    with limiter.slot("a"), limiter.slot("a"):
        with pytest.raises(ApiError) as caught, limiter.slot("a"):
            pass
        assert caught.value.status == 429
        with limiter.slot("b"):
            with pytest.raises(ApiError) as caught, limiter.slot("b"):
                pass
            assert caught.value.status == 503


def test_headers_are_counted_together() -> None:
    limits = Limits(header_bytes_max=10)
    check_headers([(b"ab", b"cd"), (b"ef", b"ghij")], limits)
    with pytest.raises(ApiError) as caught:
        check_headers([(b"ab", b"cd"), (b"ef", b"ghijk")], limits)
    assert caught.value.status == 431
