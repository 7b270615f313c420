"""Import this first in a process that plays episodes and holds no model: transformers' tokenizers then load without
torch, in a second instead of six and in 80 MB instead of 400. It does so only where the process was started with
WAYMARK_WITHOUT_TORCH=1, so that importing it elsewhere changes nothing.
"""

import os
import sys

if os.environ.get("WAYMARK_WITHOUT_TORCH") == "1":
    # None makes `import torch` an ImportError and `find_spec("torch")` say that it is not there.
    for _name in ("torch", "vllm"):
        sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
