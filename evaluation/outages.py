"""Episodes that an outage ended are asked again; what still fails counts as wrong, and many of them void a figure."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from agent.trajectory import Trajectory
from envs.episode import EpisodeSpec
from envs.units import Episodes, is_lost

MAX_OUTAGE_SHARE = 0.01
"""Above this share of episodes without an answer of the policy's own, figures are marked invalid."""


async def play_all(
    episodes: Episodes,
    specs: Sequence[EpisodeSpec],
    *,
    on_finish: Callable[[Trajectory], None] = lambda trajectory: None,
    retries: int = 2,
    pause_s: float = 5.0,
) -> list[Trajectory]:
    """Play these episodes, in the order of the specs; those that an outage ended up to `retries` times more.

    The pause before a retry doubles. The first exception gives all up and is raised as it is.
    """
    trajectories: dict[str, Trajectory] = {}
    asked = list(specs)
    for attempt in range(retries + 1):
        futures = episodes.submit(asked)
        for future in futures if attempt == 0 else ():
            future.add_done_callback(partial(_tell, on_finish))
        try:
            played = await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()
        trajectories |= {spec.id: trajectory for spec, trajectory in zip(asked, played, strict=True)}
        asked = [spec for spec in specs if is_lost(trajectories[spec.id])]
        if not asked or attempt == retries:
            break
        await asyncio.sleep(pause_s * 2**attempt)
    return [trajectories[spec.id] for spec in specs]


def _tell(on_finish: Callable[[Trajectory], None], future: asyncio.Future[Trajectory]) -> None:
    if not future.cancelled() and future.exception() is None:
        on_finish(future.result())


def validity(summary: Mapping[str, Any]) -> dict[str, Any]:
    """`valid`, `outage_share`, and `invalid_because` in words (None where the figures are valid)."""
    lost, played = int(summary["num_outages"]), int(summary["num_trajectories"])
    share = lost / played if played else 0.0
    is_valid = share <= MAX_OUTAGE_SHARE
    without = summary.get("em_without_outages")
    told = "not defined" if without is None else f"{without:.3f}"
    because = (
        None
        if is_valid
        else f"{lost} of {played} episodes ({share:.1%}) have no answer of the policy's own, and more than "
        f"{MAX_OUTAGE_SHARE:.0%} make figures invalid; they count as wrong, without them EM is {told}"
    )
    return {"valid": is_valid, "outage_share": share, "invalid_because": because}
