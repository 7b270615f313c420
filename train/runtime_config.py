"""Where the processes of a run live: all in one, or actors on Ray.

    runtime: local                                          engine, episodes and learner in this process
    runtime: ray                                            engine and episode workers as actors, on this machine
    runtime: {kind: ray, engines: 6, workers: 32, learners: 2, engine_gpus: 1, learner_gpus: 1}

The same config runs with either; `--ray-address` names a cluster. Shares of CPUs and GPUs are what Ray's placement
groups reserve.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, model_validator

from train.config_file import Section


class LocalSettings(Section):
    """Everything in this process."""

    kind: Literal["local"] = Field("local", description="The runtime.")
    action_timeout_s: float = Field(
        900.0, gt=0, description="Longest wait for one sampled turn; then the episode ends as engine_failure."
    )


class RaySettings(Section):
    """Actors on a Ray cluster, or on a Ray that the run starts on this machine and ends with itself."""

    kind: Literal["ray"] = Field("ray", description="The runtime.")
    address: str | None = Field(
        None, description="Of the cluster; None: that of RAY_ADDRESS (a submitted job has it), else a Ray of its own."
    )
    layout: Literal["disaggregated", "colocated"] = Field(
        "disaggregated", description="colocated: engines and learners share GPUs; the engines sleep while these step."
    )
    engines: int = Field(1, ge=1, description="Engine actors; a unit's requests all go to one, which has its prefix.")
    engine_cpus: float = Field(1.0, ge=0, description="CPUs reserved for an engine.")
    engine_gpus: float = Field(0.0, ge=0, description="GPUs reserved for an engine; engine.tensor_parallel of vLLM's.")
    gpu_memory_gb: float | None = Field(
        None, gt=0, description="Memory of one GPU in GiB, which the plan is held against; None: this machine's own."
    )
    workers: int = Field(2, ge=1, description="Episode workers; each is an event loop that saturates one core.")
    worker_cpus: float = Field(0.5, ge=0, description="CPUs reserved for a worker.")
    episodes_per_worker: int = Field(64, ge=1, description="Episodes that a worker plays at once.")
    retrievers: int = Field(
        0,
        ge=0,
        description="Retrieval replicas, for an index whose encoder needs torch; 0: each worker opens the index.",
    )
    retriever_cpus: float = Field(1.0, ge=0, description="CPUs reserved for a replica.")
    retriever_gpus: float = Field(0.0, ge=0, description="GPUs reserved for a replica.")
    learners: int = Field(1, ge=1, description="Learner processes (DDP, or FSDP by learner.trl.fsdp), by Ray Train.")
    learner_cpus: float = Field(1.0, ge=0, description="CPUs reserved for a learner process, where there are several.")
    learner_gpus: float = Field(0.0, ge=0, description="GPUs reserved for a learner process.")
    learner_failures: int = Field(3, ge=0, description="How often lost learners are started again, from a checkpoint.")
    heartbeat_s: float = Field(2.0, gt=0, description="Seconds between health checks of every actor.")
    heartbeat_timeout_s: float = Field(30.0, gt=0, description="An actor that does not answer for so long is replaced.")
    engine_silence_s: float = Field(
        300.0, gt=0, description="An engine that finishes no request for so long, while some wait, is replaced."
    )
    action_timeout_s: float = Field(
        900.0, gt=0, description="Longest wait for one sampled turn, replaced engines included; then engine_failure."
    )
    episode_timeout_s: float = Field(
        3600.0, gt=0, description="Longest time of one attempt at an episode; then another worker plays it."
    )
    start_timeout_s: float = Field(
        600.0, gt=0, description="Longest wait for the cluster's room and the actors' start."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "RaySettings":
        if self.engine_silence_s >= self.action_timeout_s:
            raise ValueError(
                f"engine_silence_s is {self.engine_silence_s:g} and action_timeout_s {self.action_timeout_s:g}: a hung "
                "engine would be replaced after its episodes were given up; make the first the smaller one"
            )
        return self


def _by_name(given: Any) -> Any:
    if isinstance(given, str):
        return {"kind": given}
    return {"kind": "ray", **given} if isinstance(given, dict) else given


RuntimeSettings = Annotated[Annotated[LocalSettings | RaySettings, Discriminator("kind")], BeforeValidator(_by_name)]
"""A field of a config: a runtime's name, or a mapping with settings (of ray, where it has no `kind`)."""
