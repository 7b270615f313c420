"""The verbs, one thin file each: parse arguments, call one function, print.

Importing this package sets the thread budget, because a verb's own imports (torch, numba) come too late for it.
"""

import contextlib
import os
import sys

from scripts.threads import set_thread_budget, take_threads

with contextlib.suppress(ValueError):  # `scripts.cli` reads the same values again and reports what is wrong with them
    set_thread_budget(take_threads(sys.argv[1:])[0], os.environ)
