"""The testbed's index behind a server in a process of its own, as `waymark serve-index` starts one."""

from contextlib import AbstractContextManager

from tests.retrieval.server.served import Served, served
from train.testbed import Testbed


def served_index(*specs: object) -> AbstractContextManager[Served]:
    """A running server of these specs on a free port."""
    return served("-m", "scripts.serve_index", *map(str, specs), "--port", "0")


def okapi_beside(testbed: Testbed) -> str:
    """The folder of a second index over the testbed's corpus, built once."""
    from retrieval.index import build_index

    folder = testbed.folder / "okapi"
    if not folder.exists():
        build_index(testbed.corpus, folder, backend="rank_bm25")
    return str(folder)
