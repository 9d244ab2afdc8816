"""How a verb ends: its report drawn where it was asked for, or its error as one sentence; and the exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from niudao.errors import LimitError, NiudaoError, UsageError

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
        return _in_child(module, options)
    return _run(module, options)


def _in_child(module: Any, options: argparse.Namespace) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()  # before numpy, h5py or any thread
    if pid == 0:
        code = FAILED
        try:
            code = _run(module, options)
            sys.stdout.flush()
            sys.stderr.flush()
        except BrokenPipeError:
            code = OK
        finally:
            os._exit(code)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child hears it too and answers
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, signal.SIGTERM))
        _, status = os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGINT, previous)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        error = LimitError(
            f"the process that read the file died ({name}): the file is hostile, or the memory ran out.",
            where=getattr(options, "model", None) or getattr(options, "source", None),
        )
        show_error(error, as_json=options.json)
        return FAILED
    return os.WEXITSTATUS(status)


def _run(module: Any, options: argparse.Namespace) -> int:
    try:
        report = module.run(options)
        if report is None:
            return OK
        deliver(report, options)
        return OK if report.ok else NO
    except KeyboardInterrupt:
        sys.stderr.write("stopped, nothing written\n")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    except NiudaoError as e:
        show_error(e, as_json=options.json, verbose=options.verbose)
        return USAGE if isinstance(e, UsageError) else FAILED
    except MemoryError:
        show_error(LimitError("the memory did not suffice.", next="free some, or raise the limit"), as_json=options.json)
        return FAILED
    except RecursionError:
        show_error(LimitError("the file is nested too deeply."), as_json=options.json)
        return FAILED
    except Exception as e:  # a bug of ours: one line and a file to send, never a bare traceback
        return _bug(e, options)


def _bug(e: Exception, options: argparse.Namespace) -> int:
    import tempfile

    if options.verbose >= 2:
        traceback.print_exc()
    with tempfile.NamedTemporaryFile("w", prefix="niudao-bug-", suffix=".txt", delete=False) as f:
        f.write(traceback.format_exc())
    text = " ".join(str(e).split())[:200]
    show_error(NiudaoError(f"niudao has a bug: {type(e).__name__}: {text}", next=f"please report it with {f.name}"), as_json=options.json)
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
    from niudao.formats.files import whole

    if path.suffix == ".html":
        report.to_html(path)
        return
    texts = {".md": report.to_markdown, ".json": report.to_json, ".txt": report.to_text}
    if path.suffix not in texts:
        raise UsageError(f"a report cannot be written as {path.suffix or path.name!r}.", expected=".html, .md, .json or .txt")
    with whole(path) as draft:
        draft.write_text(texts[path.suffix]() + "\n", encoding="utf-8")
