"""`python -m niudao` is `niudao`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """The command line from its first import to its last word, without a traceback for Ctrl-C, a full disk or a closed pipe."""
    try:
        from niudao.cli.main import main as run

        code = run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; what is left is the interpreter's own clean-up
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _end(130, "stopped, nothing written")
    except BrokenPipeError:  # nobody listens any more, as with `| head -1`
        return _end(0)
    except OSError as e:
        return _end(1, f"error: the answer could not be written: {e.strerror or e}.")
    except (MemoryError, ImportError) as e:
        if isinstance(e, ImportError) and "map segment" not in str(e):
            raise
        return _end(1, "error: the memory did not suffice, not even to begin.")
    return code


def _end(code: int, text: str = "") -> int:
    """The end where Python's own would complain: no flush of what cannot be written, no clean-up that Ctrl-C could disturb."""
    if text:
        os.write(2, f"{text}\n".encode())
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
