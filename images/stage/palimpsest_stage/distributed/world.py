"""How many processes share a training, and which of its pods this is. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from palimpsest.api.task import LEADER_VARIABLE, PROCESSES_VARIABLE, REPLICAS_VARIABLE

from palimpsest_stage.errors import InvalidTask

# Longer than the slowest rank's step takes beyond the fastest's, and than a pod's start.
PEER_SECONDS = "1800"


@dataclass(frozen=True)
class World:
    """`replicas` pods of `processes` ranks each; this pod is number `replica`.

    `leader` is where rank 0 listens, where there are several pods. `patience` is how long a rank
    waits for the others before it gives the attempt up.
    """

    replicas: int = 1
    processes: int = 1
    replica: int = 0
    leader: tuple[str, int] | None = None
    patience: timedelta = timedelta(seconds=int(PEER_SECONDS))

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "World":
        """As the pod's environment says. Raises InvalidTask."""
        host, _, port = environment.get(LEADER_VARIABLE, "").rpartition(":")
        try:
            world = cls(
                replicas=int(environment.get(REPLICAS_VARIABLE, "1")),
                processes=int(environment.get(PROCESSES_VARIABLE, "1")),
                replica=int(environment.get("JOB_COMPLETION_INDEX", "0")),
                leader=(host, int(port)) if host else None,
                patience=timedelta(
                    seconds=int(environment.get("PALIMPSEST_PEER_SECONDS", PEER_SECONDS))
                ),
            )
        except ValueError as error:
            raise InvalidTask("the pod's environment: not numbers") from error
        if world.size > 1 and not 0 <= world.replica < world.replicas:
            raise InvalidTask("JOB_COMPLETION_INDEX is beyond the number of replicas")
        if world.replicas > 1 and world.leader is None:
            raise InvalidTask(f"{LEADER_VARIABLE} must name the first pod's host and port")
        return world

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.replicas * self.processes

    def rank(self, local: int) -> int:
        """The rank of this pod's process number `local`."""
        return self.replica * self.processes + local
