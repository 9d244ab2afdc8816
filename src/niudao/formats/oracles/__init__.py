"""Real frameworks, each in an environment of its own: they run files that we wrote and so judge a conversion.

table.py         which oracles there are: their Python, their pins, their tiny network with its known answers
place.py         where they live, and which of them are ready
interpreters.py  finding the Python that a framework needs
setup.py         making one, whole or not at all, and removing it
process.py       running a network in one: limits on time and memory, nothing of our environment leaks in
check.py         does an oracle still give the numbers that are known
reports.py       what the verb `niudao oracle` answers
workers/         what runs on the other side: plain files for Python 3.6 and later
"""

from __future__ import annotations

from niudao.formats.oracles.place import Oracle, find, root
from niudao.formats.oracles.process import OverBudget, run
from niudao.formats.oracles.table import ORACLES, Recipe

__all__ = ["ORACLES", "Oracle", "OverBudget", "Recipe", "find", "root", "run"]
