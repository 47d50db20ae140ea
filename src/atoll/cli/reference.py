"""Writes the reference of the command line from the code itself.

python -m atoll.cli.reference > docs/reference/cli.md
"""

from __future__ import annotations

import re
import sys

from atoll.cli.app import COMMANDS, EXIT_CODES, make_app

INTRODUCTION = """# The command line

<!-- Written by python -m atoll.cli.reference; change the commands, not this page. -->

Data goes to standard output, talk to standard error; `--json` makes data JSON. An error is \
one line that says what is wrong, and a hint what to do about it. `ATOLL_DEBUG=1` shows where in \
the code it came from.

## Settings

An option is taken from the command line, else from the variable `ATOLL_<COMMAND>_<OPTION>` \
(`ATOLL_SERVE_NODES=3`), else from the settings file: `settings.toml` in the folder `atoll` of \
your folder for settings (`~/.config` on Linux, `~/Library/Application Support` on macOS), or the \
file that `--config` or `ATOLL_CONFIG` names. The file has a table for each command; a key that is \
no option is an error:

```toml
[serve]
nodes = 3
context = 4096

[keys.create]
json = true
```

| Variable | Meaning |
|---|---|
| `ATOLL_HOME` | folder for models, keys and identities |
| `ATOLL_STORE` | folder for models, where they lie elsewhere |
| `ATOLL_API_KEY` | the key that `chat`, `status` and `bench` present |
| `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_ENDPOINT` | token and address of the \
Hugging Face Hub, as its own tools read them |
| `ATOLL_LLAMA_LIBRARY` | an engine library of your own, of the same build of llama.cpp |
| `ATOLL_LOG` | `debug`, `info`, `warning` or `error`: what is logged to standard error |
| `ATOLL_DEBUG` | set: errors come with their traceback |

These options go with every command:

"""
GLOBAL_OPTIONS = re.compile(r"^\* `--(?:config|verbose)\b.*\n", re.MULTILINE)


def reference_page() -> str:
    """The page, in Markdown."""
    text = make_app(COMMANDS).generate_docs("markdown")
    # Commands of a group show how Python itself was started; that is no part of them.
    text = re.sub(r"^(atoll .*?) -m \S+", r"\1", text, flags=re.MULTILINE)
    # A group that does something itself is called without a command.
    text = re.sub(r"^(atoll \w+) COMMAND \[OPTIONS\]", r"\1 [OPTIONS]", text, flags=re.MULTILINE)
    # Each command repeats the options of all; they are told once, in front.
    everywhere = dict.fromkeys(GLOBAL_OPTIONS.findall(text))
    _, found, commands = GLOBAL_OPTIONS.sub("", text).partition("\n## atoll demo")
    assert found, "the commands' part has another beginning"
    commands = re.sub(r"\*\*Parameters\*\*:\n\n(?!\*)", "", found + commands)
    codes = "\n".join(f"| {code} | {text} |" for code, text in EXIT_CODES.items())
    return (
        f"{INTRODUCTION}{''.join(everywhere)}"
        f"\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n{codes}\n"
        f"{commands.rstrip()}\n"
    )


if __name__ == "__main__":
    sys.stdout.write(reference_page())
