"""Run a module as `python -m` does, and die with the process that started us: `tie.py pip install ...`."""

import runpy
import sys


def tie() -> None:
    """Ask Linux to kill this process when its parent dies, however that happens; elsewhere a parent's own clean-up must do."""
    try:
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # 1 is PR_SET_PDEATHSIG
    except (ImportError, AttributeError, OSError, TypeError):
        pass


if __name__ == "__main__":
    tie()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
