"""The `atoll` command: its commands, its settings, and the one place that shows errors.

Commands are named by import path, so that only the one that runs is imported.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Container, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from atoll import __version__
from atoll.cli.logs import set_up_logging
from atoll.cli.settings import settings_sources
from atoll.domain.errors import AtollError

USAGE_EXIT = 2
BUG_EXIT = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED_EXIT = 130
DEBUG_VARIABLE = "ATOLL_DEBUG"

COMMANDS = {
    "demo": "See it work: a gateway and three nodes on this machine answer a question.",
    "serve": "Start a gateway: serve a model from a ring of nodes.",
    "invite": "Make a ticket with which another machine joins.",
    "join": "Join a ring: host a part of its model on this machine.",
    "leave": "Leave a gateway for good.",
    "drain": "Take a node out of its rings; its streams go on elsewhere, not a token lost.",
    "relay": "Run a relay: it passes packets between nodes that cannot reach each other.",
    "chat": "Talk with a served model, here or at any OpenAI-compatible address.",
    "plan": "Plan a ring: which layers on which machine, and what will come of it.",
    "compare": "Forecast what fleets would do with a model: speed, users, power and cost.",
    "status": "Show the running ring: its stages, their speed and memory.",
    "bench": "Measure a running ring, or any OpenAI-compatible server, as a client sees it.",
    "probe": "Measure this machine: its memory, and how fast it computes a model's layers.",
    "pull": "Bring a model onto this machine.",
    "cache": "List what lies on this machine's disk, or make room.",
    "keys": "Make, list, limit and revoke API keys.",
    "nodes": "List, approve, drain and revoke the nodes that may host stages.",
    "service": "Let this machine start its node by itself.",
    "simulate": "Simulate fleets that serve a model, and the system itself with faults.",
    "lpu": "Compile models for Groq's LPU, to the cycle, and run them on simulated chips.",
}
"""Command to its help in one line; the module of the same name holds the command."""

GROUPS = {
    "keys": ("create", "list", "set", "revoke"),
    "nodes": ("list", "approve", "deny", "drain", "resume", "revoke"),
    "service": ("print",),
    "simulate": ("faults",),
    "lpu": ("compile", "run", "show"),
}
"""Commands that hold others; these are functions of the group's module."""

PLACES = {("lpu", "run"): "lpu_run", ("lpu", "show"): "lpu_show"}
"""Commands of a group that are in a module of their own."""

DEFAULTS = {"simulate": "atoll.cli.simulate_serving"}
"""Groups that do something themselves: the module that has a function of their name."""

GROUP_HELP = {
    "keys": f"""{COMMANDS["keys"]}

The gateway keeps only a key's hash, so a key is shown once, when it is made. A new,
changed or revoked key counts at once; the gateway need not be started again.
""",
    "nodes": f"""{COMMANDS["nodes"]}

A machine that joined with a ticket is enrolled by its key and comes back without one. What
is changed here counts within a second; the gateway need not be started again.
""",
    "lpu": f"""{COMMANDS["lpu"]}

The first LPU, the tensor streaming processor, as its papers describe it: nothing on it waits for
anything else, so that a schedule says what a token takes.
""",
    "service": f"""{COMMANDS["service"]}

A description for systemd or launchd is printed, and it is said where to keep it; nothing is
installed.
""",
}

EXIT_CODES = {
    0: "it worked",
    1: "something failed, and none of the others fits; `simulate faults`: an invariant was broken",
    2: "the command, a setting or a request cannot be carried out as it stands",
    3: "the model is unknown, damaged, or cannot be cut",
    4: "the model could not be brought here",
    5: "the engine is missing or its process died",
    6: "a link was refused or broke, or a private file is not private",
    7: "there is no gateway, it refused, or its ring is not up",
    8: "`atoll demo` only: a token of the ring differs from the whole model's",
    9: "the gateway lets this node in no more: it was revoked, or its ticket is not good",
    BUG_EXIT: "a mistake in Atoll",
    INTERRUPTED_EXIT: "stopped by Ctrl-C (`serve` and `join` end with 0)",
    143: "stopped by a request to terminate (likewise)",
}

HELP = """Join machines into one ring that serves an open language model.

Try it: `atoll demo`. Help for a command: `atoll serve --help`.

Every option can also stand in a variable, `ATOLL_<COMMAND>_<OPTION>`, or in a settings file.
"""


def make_app(chosen: Container[str] = ()) -> App:
    """The application, fresh: settings of one call do not reach the next.

    Args:
        chosen: Commands whose help is to be their own, in full; it is imported
            with them.
    """
    plain_flags = Parameter(negative="")
    app = App(
        name="atoll",
        help=HELP,
        version=__version__,
        help_format="markdown",
        default_parameter=plain_flags,
        suppress_keyboard_interrupt=False,
    )
    app.meta.suppress_keyboard_interrupt = False
    for name, text in COMMANDS.items():
        if name in GROUPS:
            group = App(
                name=name,
                help=GROUP_HELP.get(name) if name in chosen else text,
                default_parameter=plain_flags,
            )
            for part in GROUPS[name]:
                place = PLACES.get((name, part), name)
                group.command(f"atoll.cli.{place}:{part}_{name}", name=part)
            if name in DEFAULTS and name in chosen:
                group.default(getattr(import_module(DEFAULTS[name]), name))
            app.command(group)
        else:
            help_text = None if name in chosen else text
            app.command(f"atoll.cli.{name}:{name}", name=name, help=help_text)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[Path | None, Parameter(env_var="ATOLL_CONFIG")] = None,
        verbose: bool = False,
    ) -> object:
        """Run a command.

        Args:
            tokens: The command and its arguments.
            config: Settings file (TOML) in place of the user's own.
            verbose: Log what happens, on standard error. `ATOLL_LOG=debug` logs more.
        """
        set_up_logging(os.environ.get("ATOLL_LOG", "info" if verbose else "warning"))
        app.config = settings_sources(config, COMMANDS)
        return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")

    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        arguments: Without the program's name; None: those of this process.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    # Nothing here multiplies matrices in numpy, whose threads would spin while it loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        result = make_app(tokens).meta(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
        return result if isinstance(result, int) else 0
    except AtollError as error:
        return _show(error.problem, error.hint, error, error.exit_code)
    except CycloptsError as error:
        return _show(_in_one_line(error), _usage_hint(tokens), error, USAGE_EXIT)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    except BrokenPipeError:
        # Whoever read our output has enough; nothing more can be written there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        logging.getLogger(__name__).debug("cli.bug", exc_info=error)
        return _show(
            f"this is a mistake in Atoll: {type(error).__name__}: {error}",
            f"run it again with {DEBUG_VARIABLE}=1 to see where, and report that",
            error,
            BUG_EXIT,
        )


def _show(problem: str, hint: str, error: BaseException, exit_code: int) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error, file=sys.stderr)
    print(f"error: {problem}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return exit_code


def _in_one_line(error: CycloptsError) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _usage_hint(tokens: Sequence[str]) -> str:
    command = next((token for token in tokens if token in COMMANDS), None)
    return f"see 'atoll {command} --help'" if command else "see 'atoll --help'"
