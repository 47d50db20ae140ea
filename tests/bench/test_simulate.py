"""What both simulators are given."""

from __future__ import annotations

from bench.simulate import VIDUR_SETTING, vidur_trace


def test_the_trace_fits_vidur_s_context() -> None:
    trace = vidur_trace()
    assert 1900 < len(trace) < 2100
    assert max(r.prompt + r.answer for r in trace) <= VIDUR_SETTING.context_tokens
    assert trace == vidur_trace()
