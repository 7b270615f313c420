"""The retrieval server as Ray Serve replicas: the same application, spread over a cluster by Ray.

    serve run retrieval.server.ray_serve:app index=/data/indexes/bm25 num_replicas=4 num_cpus=1 max_k=100

In Python it is `serve.run(app(RayServeArgs(index="/data/indexes/bm25", num_replicas=4)))`, in a Serve config file
`import_path: retrieval.server.ray_serve:app` with `args`. Every replica answers as `waymark serve-index` does, and
merges the requests that it has at the same moment into batches. The index lies at the same path on every node that gets
a replica; replicas on one host map the same files, which its memory holds once.
"""

import asyncio
import os
from contextlib import suppress
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve import Application

from retrieval.opening import open_retriever
from retrieval.server.app import create_app
from retrieval.server.pinned import check_unchanged, index_hashes
from retrieval.server.serve import portable
from retrieval.server.settings import ServerSettings
from retrieval.spec import retriever_spec

DEPLOYMENT = "Retrieval"
"""The deployment's name, for overrides in a Serve config file and for the dashboard."""

_NOT_HERE = ("host", "port", "replicas")
_PROBE = "health"


class RayServeArgs(BaseModel):
    """Arguments of `app`. Every setting of `ServerSettings` may stand beside them but `host`, `port` and `replicas`,
    which are Ray Serve's own (`http_options`, `num_replicas`).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    index: Any
    """What `open_retriever` takes (a path, a URL, a mapping), or a list of it: a hybrid by reciprocal rank fusion."""
    num_replicas: int | Literal["auto"] = 1
    """How many replicas; `auto` lets Ray Serve scale them with the load."""
    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray sets aside for a replica."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray sets aside for a replica, for an encoder or reranker."""

    @model_validator(mode="after")
    def _settings_hold(self) -> "RayServeArgs":
        _ = self.settings
        return self

    @property
    def settings(self) -> ServerSettings:
        """Of every replica. The token comes from WAYMARK_SERVER_TOKEN where none is given.

        Raises:
            ValueError: a setting that there is not, or one that does not hold.
        """
        given = dict(self.model_extra or {})
        names = [name for name in ServerSettings.model_fields if name not in _NOT_HERE]
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(
                f"there is no argument {', '.join(unknown)}; beside the index there are {', '.join(names)}"
            )
        return ServerSettings.model_validate({"token": os.environ.get("WAYMARK_SERVER_TOKEN")} | given)


def app(args: RayServeArgs) -> Application:
    """The application builder that `serve run` and Serve config files call.

    Where the index can be read from here, every replica must find this very index when it starts: one that comes up
    after the folder was replaced does not serve the new index beside the old one.

    Raises:
        ValueError: a spec that is not understood.
    """
    settings = args.settings
    spec = retriever_spec({"hybrid": args.index} if isinstance(args.index, list) else args.index)
    hashes: dict[str, str] = {}
    with suppress(FileNotFoundError):  # it is on the nodes of the replicas alone
        hashes = index_hashes(spec)
    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=args.num_replicas,
        ray_actor_options={"num_cpus": args.num_cpus, "num_gpus": args.num_gpus},
        max_ongoing_requests=2 * settings.max_waiting,  # the replica itself refuses first, with Retry-After
        max_queued_requests=settings.max_waiting,
        health_check_timeout_s=settings.timeout_s + 5,
        graceful_shutdown_timeout_s=settings.shutdown_timeout_s,
    )(serve.ingress()(RetrievalReplica))
    return deployment.bind(portable(spec), settings, hashes)


class RetrievalReplica:
    """One replica. Ray Serve makes it, asks it for its application and checks its health.

    Args:
        spec: what to open, with absolute paths.
        settings: of the server.
        hashes: the `index_hash` that must be found at each path.

    Raises:
        ValueError: a spec that cannot be opened, or an index that was replaced.
        FileNotFoundError: there is no index at a path.
    """

    def __init__(self, spec: dict[str, Any], settings: ServerSettings, hashes: dict[str, str]) -> None:
        self._settings = settings
        self._retriever = open_retriever(spec)
        check_unchanged(hashes)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What answers the requests; Ray Serve calls it after the constructor, and runs its lifespan."""
        return create_app(self._retriever, self._settings)

    async def check_health(self) -> None:
        """Search one word: a replica whose retriever fails or hangs is replaced.

        Raises:
            TimeoutError: the search took longer than the settings allow.
        """
        search = asyncio.to_thread(self._retriever.search, [_PROBE], 1)
        await asyncio.wait_for(search, self._settings.timeout_s)

    def __del__(self) -> None:
        retriever = getattr(self, "_retriever", None)
        if retriever is not None:
            retriever.close()
