"""TRL's `GRPOTrainer`, imported as if vLLM were not there.

Where vLLM is installed, TRL's trainer imports it whether it is used or not: four hundred modules, three times the
seconds, and a warning about versions. Waymark drives its engines itself and refuses `use_vllm`, so whoever trains
without vLLM need not load it. TRL has no switch for this; its modules ask `is_vllm_available` while they are imported.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trl import import_utils


@contextmanager
def _without_vllm() -> Iterator[None]:
    asked = import_utils.is_vllm_available
    import_utils.is_vllm_available = lambda min_version=None: False
    try:
        yield
    finally:
        import_utils.is_vllm_available = asked


if TYPE_CHECKING:
    from trl import GRPOTrainer
else:
    with _without_vllm():
        from trl import GRPOTrainer

__all__ = ["GRPOTrainer"]
