"""Times of compiled schedules that the package carries are those that a compile gives."""

from __future__ import annotations

import pytest
from bench.lpu_compiled import FILE, compiled, written

from atoll.forecast.lpu_compiled import compilable, shipped_times
from atoll.forecast.models import shipped_models


@pytest.mark.parametrize("name", ["SmolLM2-135M", "Mistral-7B"])
def test_the_file_is_current(name: str) -> None:
    (found,) = [time for time in shipped_times().times if time.model == name]
    again = "python -m bench lpu-compiled writes the file anew"
    assert compiled(shipped_models().shapes.find(name)) == found, again


def test_the_file_is_what_is_written() -> None:
    assert written(shipped_times()) == FILE.read_text()


def test_all_models_of_the_kind_are_there_but_those_that_do_not_fit() -> None:
    models = {shape.name for shape in shipped_models().shapes if compilable(shape)}
    assert models - {time.model for time in shipped_times().times} == {"Llama-3.1-405B"}
