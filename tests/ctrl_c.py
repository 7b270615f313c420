"""Ctrl-C for children of tests: what a shell starts in the background ignores it, and so do the children of that."""

import signal


def heed_ctrl_c() -> None:
    """To be run in a child before its program, as `preexec_fn`, where a test sends it SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
