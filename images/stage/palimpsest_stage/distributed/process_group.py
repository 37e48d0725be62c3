"""Ranks that meet through torch.distributed: gloo between CPUs, NCCL between GPUs.

What passes between them is not yet private: sums of clipped gradients before noise. In one pod it
stays on the loopback device; between pods it is neither encrypted nor authenticated, which is why
the custodian must allow it. Nothing received is unpickled.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from palimpsest_stage.distributed.world import World
from palimpsest_stage.errors import InvalidTask, PeerLost


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # torch's own kinds differ by backend; all are this.
        raise PeerLost(f"another rank is gone or silent: {error}") from error


class ProcessGroup:
    """The ranks of a World; see Group."""

    def __init__(self, world: World, local: int, store: "dist.Store") -> None:
        self.rank, self.size = world.rank(local), world.size
        self.leads, self.first_in_pod = self.rank == 0, local == 0
        self._store, self._counted = store, 0

    @classmethod
    def join(cls, world: World, local: int, scratch: Path) -> "ProcessGroup":
        """Meet the others; `scratch` is the pod's. Raises PeerLost, InvalidTask."""
        rank = world.rank(local)
        if torch.cuda.is_available():
            if torch.cuda.device_count() < world.processes:
                raise InvalidTask("the pod has fewer GPUs than processes")
            torch.cuda.set_device(local)
        os.environ |= settings(world)
        with _together():
            store: dist.Store
            if world.leader is None:
                store = dist.FileStore(str(scratch / "ranks"), world.size)
            else:
                host, port = world.leader
                # The leader need not wait for its own name to be known.
                host = "localhost" if rank == 0 else host
                store = dist.TCPStore(host, port, world.size, rank == 0, world.patience)
            store.set_timeout(world.patience)
            dist.init_process_group(
                backend(torch.cuda.is_available()),
                store=store,
                rank=rank,
                world_size=world.size,
                timeout=world.patience,
            )
        return cls(world, local, store)

    def barrier(self) -> None:
        """Wait for all."""
        self.broadcast_number(self.reduce_number(0))

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The leader's tensor; the others give one of the same shape and type."""
        mine = tensor if self.leads else torch.empty_like(tensor)
        with _together():
            dist.broadcast(mine, 0)
        return mine

    def broadcast_number(self, number: int) -> int:
        """The leader's number."""
        return int(self.broadcast(torch.tensor(number)))

    def reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, at the leader; of no meaning elsewhere."""
        with _together():
            dist.reduce(tensor, 0)
        return tensor

    def reduce_number(self, number: int) -> int:
        """Likewise."""
        return int(self.reduce(torch.tensor(number)))

    def reduce_counts(self, counts: Counter[str]) -> Counter[str]:
        """Likewise, key by key."""
        place, self._counted = f"counts/{self._counted}", self._counted + 1
        with _together():
            self._store.set(f"{place}/{self.rank}", json.dumps(counts))
            if self.leads:
                others = (self._store.get(f"{place}/{rank}") for rank in range(1, self.size))
                return sum((Counter(json.loads(other)) for other in others), counts)
        return counts

    def agree(self, digest: bytes) -> None:
        """Raises PeerLost unless all ranks' digests are the leader's."""
        mine = torch.tensor(list(digest), dtype=torch.uint8)
        if not torch.equal(self.broadcast(mine), mine):
            raise PeerLost("the ranks have not read the same")
        self.barrier()


def backend(gpus: bool) -> str:
    """torch.distributed's name of what carries tensors, by where they lie."""
    return "cpu:gloo,cuda:nccl" if gpus else "gloo"


def settings(world: World) -> dict[str, str]:
    """A lost peer is an exception at whoever waits for it; one pod opens no port to others."""
    made = {"TORCH_NCCL_BLOCKING_WAIT": "1"}
    if world.leader is None:
        made |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    return made
