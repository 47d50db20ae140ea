"""Where log lines go."""

from __future__ import annotations

import logging

import pytest

from atoll.cli.logs import set_up_logging
from atoll.domain.errors import BadRequest


def test_lines_go_to_standard_error_from_a_level_on(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO")
    set_up_logging("info")
    logging.getLogger("atoll.some.part").info("lease.evicted worker=%s", "a")
    logging.getLogger("atoll.some.part").debug("lease.kept")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("lease.evicted worker=a") == 1
    assert "lease.kept" not in shown.err


def test_there_is_no_such_level() -> None:
    with pytest.raises(BadRequest, match="no log level"):
        set_up_logging("loud")


def test_a_strangers_words_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info")
    logging.getLogger("atoll.x").warning("said=%s", "\x1b[2Jgone\nWARNING forged")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert shown.count("\n") == 1
