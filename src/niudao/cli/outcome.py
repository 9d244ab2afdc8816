"""How a verb ends: its report drawn where it was asked for, or its error as one sentence; and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from niudao.cli import child, memory
from niudao.errors import LimitError, NiudaoError, RunError, UsageError, WriteError

if TYPE_CHECKING:
    from niudao.report import Report

OK, FAILED, USAGE, NO, INTERRUPTED = 0, 1, 2, 3, 130


def usage_error(text: str, *, as_json: bool) -> int:
    """A wrong command line: the sentence on stderr, exit code 2."""
    sentence, _, rest = text.partition("\n")
    show_error(UsageError(sentence), as_json=as_json)
    if rest:
        sys.stderr.write(rest + "\n")
    return USAGE


def run_verb(verb: str, options: argparse.Namespace) -> int:
    """Run a verb; one that reads strangers' files does so in a child process, so that nothing they do can take us along."""
    module = import_module(f"niudao.cli.{verb}")
    if getattr(module, "ISOLATED", False) and hasattr(os, "fork"):
        return _ended(child.supervise(lambda: _run(module, options), options), options)
    code = _run(module, options)
    return _too_little_memory(options) if code == child.MEMORY else code


def _ended(ending: child.Ending, options: argparse.Namespace) -> int:
    """The exit code of a worker's end, and its sentence where it could not say one itself."""
    if ending.stopped:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")  # the worker's progress line
        names = ", ".join(str(p) for p in ending.written)
        sys.stderr.write(f"stopped, but {names} had been written\n" if names else "stopped, nothing written\n")
        return 128 + ending.stopped
    if ending.code == child.MEMORY:
        return _too_little_memory(options)
    if ending.cause == "exit" and memory.limit():
        return _too_little_memory(options)
    if ending.cause:
        error = LimitError(
            f"the process that read the file died ({ending.cause}): the file is hostile, or the memory ran out.",
            where=getattr(options, "model", None) or getattr(options, "source", None),
            next=f"about {_needed(options)} MB of memory may be needed",
        )
        show_error(error, as_json=options.json)
        return FAILED
    return ending.code


def _too_little_memory(options: argparse.Namespace) -> int:
    text = f"the memory did not suffice: about {_needed(options)} MB are needed."
    show_error(LimitError(text, next="free some, or raise the limit (ulimit -v)"), as_json=options.json)
    return FAILED


def _needed(options: argparse.Namespace) -> int:
    return memory.needed(child.paths_of(options))


def _run(module: Any, options: argparse.Namespace) -> int:
    try:
        report = module.run(options)
        if report is None:
            return OK
        _deliver(report, options)
        return OK if report.ok else NO
    except KeyboardInterrupt:
        sys.stderr.write("stopped, nothing written\n")
        return INTERRUPTED
    except BrokenPipeError:
        with suppress(OSError):  # nobody listens; the interpreter's own flush at its end must not complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except MemoryError:
        return child.MEMORY
    except NiudaoError as e:
        if memory.ran_out(e):
            return child.MEMORY
        if isinstance(e, RunError) and memory.limit() and e.next is None:
            e.next = f"if the memory was limited: about {_needed(options)} MB are needed, and more for a framework that proves it"
        show_error(e, as_json=options.json, verbose=options.verbose)
        return USAGE if isinstance(e, UsageError) else FAILED
    except RecursionError:
        show_error(LimitError("the file is nested too deeply."), as_json=options.json)
        return FAILED
    except Exception as e:  # a bug of ours: one line and a file to send, never a bare traceback
        return child.MEMORY if memory.ran_out(e) else _bug(e, options)


def _deliver(report: Report, options: argparse.Namespace) -> None:
    try:
        deliver(report, options)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        raise WriteError(f"the answer could not be written: {e.strerror or e}.") from e


def _bug(e: Exception, options: argparse.Namespace) -> int:
    import tempfile

    if options.verbose >= 2:
        traceback.print_exc()
    try:
        with tempfile.NamedTemporaryFile("w", prefix="niudao-bug-", suffix=".txt", dir=child.real_temporary, delete=False) as f:
            f.write(traceback.format_exc())
        help = f"please report it with {f.name}"
    except OSError:  # nowhere to write to
        help = "please report it with what -vv shows"
    text = " ".join(str(e).split())[:200]
    show_error(NiudaoError(f"niudao has a bug: {type(e).__name__}: {text}", next=help), as_json=options.json)
    return FAILED


def show_error(error: NiudaoError, *, as_json: bool, verbose: int = 0) -> None:
    """One sentence and at most four aligned lines on stderr; with --json also one document on stdout."""
    from niudao.report import json, text

    if verbose >= 2:
        traceback.print_exc()
    if as_json:
        sys.stdout.write(json.error(error, indent=None) + "\n")
    sys.stderr.write(text.error(error, color=sys.stderr.isatty() and "NO_COLOR" not in os.environ))


def deliver(report: Report, options: argparse.Namespace) -> None:
    """The answer to stdout, the reports to their files, a hint to stderr."""
    for path in options.report:
        save(report, Path(path))
    if options.json:
        sys.stdout.write(report.to_json() + "\n")
        return
    if options.quiet:
        return
    terminal = sys.stdout.isatty()
    wanted = options.color == "always" or bool(os.environ.get("FORCE_COLOR"))
    plain = options.color == "never" or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    width = _width() if terminal or wanted else None
    text = report.to_text(color=wanted or (terminal and not plain), width=width)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    for path in options.report:
        sys.stderr.write(f"wrote {path}\n")


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def save(report: Report, path: Path) -> None:
    """Write a report by its file's ending."""
    from niudao.whole import whole

    if path.suffix == ".html":
        report.to_html(path)
        return
    texts = {".md": report.to_markdown, ".json": report.to_json, ".txt": report.to_text}
    if path.suffix not in texts:
        raise UsageError(f"a report cannot be written as {path.suffix or path.name!r}.", expected=".html, .md, .json or .txt")
    with whole(path) as draft:
        draft.write_text(texts[path.suffix]() + "\n", encoding="utf-8")
