"""What tells two retrievers apart: the hash of an identity, and the header that carries it on a server's answers."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IDENTITY_HEADER = "X-Identity-Hash"
"""The sha256 of the identity of what gave an answer, so that a client sees when another index is served."""


def identity_hash(identity: Mapping[str, Any]) -> str:
    """sha256 of an identity: what stands for `index_hash` where several retrievers make one."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8")).hexdigest()
