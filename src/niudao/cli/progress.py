"""A line on stderr once something takes longer than two seconds: what is being done, and for how long."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from types import TracebackType


class Progress:
    """Shows the stage and its seconds; call it with the name of each new stage.

    Args:
        options: The verb's options; silent with --quiet and --json.
        total: How many stages or items are expected, for the bar.
    """

    DELAY = 2.0

    def __init__(self, options: argparse.Namespace, total: int) -> None:
        self._silent = options.quiet or options.json
        self._terminal = sys.stderr.isatty()
        self._total = max(total, 1)
        self._count = 0
        self._stage = ""
        self._start = time.monotonic()
        self._said = -1
        self._shown = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, stage: str) -> None:
        """A new stage begins."""
        self._count += 1
        self._stage = stage

    def __enter__(self) -> Progress:
        if not self._silent:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._shown and self._terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            seconds = time.monotonic() - self._start
            if seconds < self.DELAY:
                continue
            self._shown = True
            done = min(self._count, self._total) / self._total
            if self._terminal:
                filled = int(done * 20)
                left = f", about {seconds / done * (1 - done):.0f} s left" if 0 < done < 1 else ""
                sys.stderr.write(f"\r\033[K{'#' * filled}{'.' * (20 - filled)} {self._stage}  {seconds:.0f} s{left}")
                sys.stderr.flush()
            elif int(done * 10) > self._said:
                self._said = int(done * 10)
                sys.stderr.write(f"{done * 100:.0f} % {self._stage} ({seconds:.0f} s)\n")
