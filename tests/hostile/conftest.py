"""The modules of this folder import each other by their own names, in tests and in `fuzz.py` alike."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
