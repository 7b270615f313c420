"""A run's plan without the run: `waymark train CONFIG --dry-run`.

Everything that a start checks is checked. Where the model, the data or the index of a recipe is not on this machine,
the plan is made of what is, and the error names what is missing.
"""

from collections.abc import Callable

from retrieval.retriever import RetrievalError
from train.assembly import assemble
from train.config import TrainConfig
from train.config_file import ConfigError
from train.plan import make_plan
from train.plan_cluster import connected
from train.plan_inputs import inputs_found, inputs_of


def rehearse(config: TrainConfig, say: Callable[[str], None], *, autoscaling: bool = False) -> None:
    """Tell the plan.

    Raises:
        ConfigError: inputs that are not here, a run that does not fit, or no such cluster; the plan has been told.
        ValueError: (or a subclass) what else forbids a start.
    """
    try:
        with assemble(config) as parts:
            plan = make_plan(config, inputs_of(config, parts))
    except (ValueError, OSError, RetrievalError):
        inputs = inputs_found(config)
        if not inputs.missing:
            raise
        plan = make_plan(config, inputs)
    say(plan.text)
    plan.check()
    if plan.missing:
        what = ", ".join(dict.fromkeys(line.split(":")[0] for line in plan.missing))
        raise ConfigError(f"not on this machine: {what}; everything else has been checked, and the plan holds for it")
    with connected(config, autoscaling=autoscaling):
        pass
