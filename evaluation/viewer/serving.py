"""`serve_viewer`: the page on a port of this machine, until Ctrl-C."""

from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

MISSING = "the viewer needs the packages {names}: pip install 'waymark[serve]'"


def serve_viewer(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8700,
    questions: Sequence[Path] = (),
    cache: Path | None = None,
    hosts: Sequence[str] = (),
    tokenizer: Path | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Show runs until Ctrl-C or SIGTERM; call it on the main thread.

    Args:
        folders: runs, evaluations, or folders of them.
        host: address to listen on. There is no login: another than this machine's lets everybody read who reaches it.
        port: 0 takes a free one.
        questions: files of questions beside those that runs name.
        cache: folder for the indexes; default: the user's cache folder.
        hosts: further names under which the page may be asked for, such as a tunnel's.
        tokenizer: folder with a tokenizer for runs that name none which is there.
        announce: called with one line when the page is there; the line ends in the URL.

    Raises:
        FileNotFoundError, ValueError: a folder, file or port that cannot be used, or a package that is missing.
    """
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ValueError(MISSING.format(names=" and ".join(missing)))
    import uvicorn

    from evaluation.viewer.app import create_app
    from evaluation.viewer.catalogue import Catalogue
    from evaluation.viewer.security import LOCAL_NAMES
    from retrieval.server.process import address_of, listening_socket
    from retrieval.server.settings import ServerSettings

    with closing(listening_socket(ServerSettings(host=host, port=port))) as listener:
        catalogue = Catalogue(folders, questions, cache, tokenizer=tokenizer)
        own = f"[{host}]" if ":" in host and not host.startswith("[") else host
        named = {*LOCAL_NAMES, *hosts, own if is_local(host) else "*"}
        app = create_app(catalogue, hosts=named)
        # An open page holds a stream of events, which ends with the server and not before.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, server_header=False)
        count = sum(1 for _ in catalogue.runs)
        announce(f"{count} run{'' if count == 1 else 's'} at {address_of(listener)}")
        uvicorn.Server(config).run(sockets=[listener])


def is_local(host: str) -> bool:
    """True if only this machine can reach an address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
