"""`niudao VERB ...`: only the verb that was typed is imported; everything heavy is imported after parsing."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from niudao import __version__

VERBS: dict[str, tuple[str, str, str]] = {
    # verb: (group, usage in one line, what it does)
    "convert": ("models", "SRC [WEIGHTS] DST", "a network in another format, with proof"),
    "compare": ("models", "A B", "are two files the same network, and if not, from which layer on"),
    "inspect": ("models", "MODEL", "what is in it and what it costs"),
    "run": ("models", "MODEL IMAGE...", "its answers on images, a folder or an .npy"),
    "extract": ("models", "MODEL TARGET", "a named part of a network as a network"),
    "card": ("models", "MODEL", "how a picture becomes its input: show or set"),
    "formats": ("models", "", "what can be read and written"),
    "zoo": ("models", "[list|show|build] [NAME] [TARGET]", "published architectures: facts, and seeded networks in any format"),
    "oracle": ("house", "[setup|check|remove|list] [NAME]", "real frameworks that check our work: set up, list, check, remove"),
    "doctor": ("house", "", "is everything installed"),
    "demo": ("house", "", "the main job on two shipped networks"),
    "completion": ("house", "SHELL", "the completion script for bash, zsh, fish or tcsh"),
    "help": ("house", "TOPIC", "formats, exit-codes, json, input-card"),
}

OLD_NAMES = {
    "export": "convert",
    "predict": "run",
    "summary": "inspect",
    "info": "inspect",
    "diff": "compare",
    "check": "compare",
    "val": "compare",
}


class Parser(argparse.ArgumentParser):
    """argparse with a one-line error and a suggestion instead of a dump of every choice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Exit 2 with at most three lines."""
        flags = [s for action in self._actions for s in action.option_strings]
        if message.startswith("unrecognized arguments: "):
            word = message.removeprefix("unrecognized arguments: ").split()[0]
            close = get_close_matches(word.split("=")[0], flags, n=1, cutoff=0.6)
            message = f"unknown flag {word}." if word.startswith("-") else f"unexpected argument {word!r}."
            message += f" Did you mean {close[0]}?" if close else ""
        elif "invalid choice: " in message:
            message = self._choice(message)
        raise Usage(message, f"usage: {self.prog} {self._short()}   ({self.prog} --help)")

    def _choice(self, message: str) -> str:
        argument, _, rest = message.partition(": invalid choice: ")
        word = rest.split(" ")[0].strip("'")
        choices = [c.strip(" ')") for c in rest.partition("choose from ")[2].split(",")]
        close = get_close_matches(word, choices, n=1, cutoff=0.4)
        return f"{argument.removeprefix('argument ')} cannot be {word!r}. " + (
            f"Did you mean {close[0]}?" if close else f"Choose from {', '.join(choices)}."
        )

    def _short(self) -> str:
        verb = self.prog.split()[-1]
        return VERBS[verb][1] if verb in VERBS else "VERB ..."


class Usage(Exception):
    """A wrong command line: exit code 2."""


def add_common(parser: argparse.ArgumentParser) -> None:
    """The flags that every verb has; each may also be set as NIUDAO_<NAME> in the environment."""

    def env(name: str, default: str | None = None) -> str | None:
        return os.environ.get(f"NIUDAO_{name}") or default

    def number(name: str) -> int:
        text = env(name, "0") or "0"
        if not text.isdigit():
            raise Usage(f"NIUDAO_{name} in the environment cannot be {text!r}.", "expected a whole number")
        return int(text)

    group = parser.add_argument_group("common flags (also as NIUDAO_<NAME> in the environment)")
    group.add_argument("-o", "--output", metavar="PATH", default=env("OUTPUT"), help="where the result goes")
    group.add_argument("--json", action="store_true", default=bool(env("JSON")), help="one JSON document on stdout")
    group.add_argument("-q", "--quiet", action="store_true", default=bool(env("QUIET")), help="errors only")
    group.add_argument("-v", "--verbose", action="count", default=number("VERBOSE"), help="say more; -vv adds the traceback to an error")
    group.add_argument("--color", choices=("auto", "always", "never"), default=env("COLOR", "auto"), help="colour (default auto)")
    group.add_argument(
        "--report",
        action="append",
        metavar="PATH",
        default=[r for r in [env("REPORT")] if r],
        help="also write .html, .md or .json; may be repeated",
    )
    group.add_argument("-f", "--force", action="store_true", default=bool(env("FORCE")), help="write although the proof failed")
    group.add_argument("--seed", type=int, metavar="N", default=number("SEED"), help="seed of everything random (default 0)")
    group.add_argument("--device", choices=("auto", "cpu"), default=env("DEVICE", "auto"), help="where to run (default auto: cpu)")


def parser_for(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb, its module imported."""
    module = import_module(f"niudao.cli.{verb}")
    examples = "\n".join(f"  {line}" for line in module.EXAMPLES)
    parser = Parser(
        prog=f"niudao {verb}",
        usage=f"niudao {verb} {VERBS[verb][1]} [flags]",
        description=(module.__doc__ or "").strip(),
        epilog=f"examples:\n{examples}",
    )
    module.arguments(parser)
    add_common(parser)
    return parser


def overview() -> str:
    """What `niudao` says without an argument."""
    return f"""niudao {__version__}  convert and understand vision networks; every step proves itself

  niudao convert net.h5 net.onnx           another format, with proof
  niudao inspect net.keras                 what is in it and what it costs
  niudao run net.keras cat.jpg             the five best classes
  niudao compare a.onnx b.keras            the same network? if not, from which layer on
All verbs: niudao --help      Is everything installed? niudao doctor      Try it: niudao demo
"""


def full_help() -> str:
    """What `niudao --help` says."""
    lines = [f"niudao {__version__}  usage: niudao VERB ... (niudao VERB --help for each)", ""]
    for group in dict.fromkeys(g for g, _, _ in VERBS.values()):
        lines.append(group)
        lines += [f"  niudao {f'{verb} {usage}'.strip():<28} {text}" for verb, (g, usage, text) in VERBS.items() if g == group]
    lines += ["", "Exit codes: 0 done, 1 could not, 2 usage, 3 the answer is no, 130 interrupted (niudao help exit-codes)."]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    _streams()
    if not args:
        sys.stdout.write(overview())
        return 0
    if args[0] in ("-h", "--help"):
        sys.stdout.write(full_help())
        return 0
    if args[0] == "--version":
        sys.stdout.write(f"niudao {__version__}\n")
        return 0
    from niudao.cli.outcome import run_verb, usage_error

    verb = args[0]
    as_json = "--json" in args
    if verb not in VERBS:
        return usage_error(_unknown(verb), as_json=as_json)
    try:
        options = parser_for(verb).parse_args(args[1:])
    except Usage as e:
        return usage_error("\n".join(str(a) for a in e.args), as_json=as_json)
    except SystemExit as e:  # --help
        return int(e.code or 0)
    return run_verb(verb, options)


def _streams() -> None:
    """Somewhere to write to where the caller closed them, and no error for a sign that an old locale lacks."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  open for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _unknown(verb: str) -> str:
    if verb in OLD_NAMES:
        return f"`{verb}` is `{OLD_NAMES[verb]}` here."
    if verb.startswith("-"):
        return f"unknown flag {verb}.\nusage: niudao VERB ...   (niudao --help)"
    close = get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    return f"unknown verb {verb!r}." + (f" Did you mean {close[0]}?" if close else "") + "\nusage: niudao VERB ...   (niudao --help)"
