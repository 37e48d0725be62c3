"""What several ranks do together, as a program: `ranks PROCESSES FOLDER`.

Apart from the tests' own process, which has threads that no fork may copy. Each rank leaves what
it saw in FOLDER/<rank>.json.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.api.outcomes import Outcome
from palimpsest_stage.distributed.launch import Word, launch
from palimpsest_stage.distributed.world import World

if TYPE_CHECKING:
    from palimpsest_stage.distributed.group import Group

# Of every record, in the scenario `inclusion`: a rate of 1/8.
EXPECTED, RECORDS, ROWS, STEPS = 40, 320, 60, 4000


def stepping(group: Group) -> Any:
    """Three steps on ten examples, all of them in, with noise that is always the same."""
    import torch  # noqa: PLC0415
    from palimpsest_stage.dp.noise import SecureGenerator  # noqa: PLC0415
    from unit.stage.tiny import examples  # noqa: PLC0415

    cpu = torch.device("cpu")

    class Fixed(SecureGenerator):
        drawn = 0

        def normals(self, count: int, device: torch.device = cpu) -> torch.Tensor:
            self.drawn += 1
            return torch.linspace(-1, 1, count, dtype=torch.float64, device=device)

    generator = Fixed()
    made = training(group, generator, expected_batch_size=200, micro_batch_size=1)
    rows = examples(10)[group.rank :: group.size]
    state, sizes = made.initial(), []
    for _ in range(3):
        state, size = made.step(state, rows)
        sizes.append(size)
    return {
        "given": made.given,
        "released": made.released,
        "sizes": sizes,
        "steps": state.steps,
        "draws": generator.drawn,
    }


def noise(group: Group) -> Any:
    """Steps on no example at all: what is released is noise, over the expected batch size."""
    from palimpsest_stage.dp.noise import SecureGenerator  # noqa: PLC0415

    generator = SecureGenerator()
    made = training(group, generator)
    state = made.initial()
    for _ in range(4):
        state, _ = made.step(state, [])
    return {"released": made.released, "words": generator.words(2000).tolist()}


def inclusion(group: Group) -> Any:
    """How often each record of the rank's shard is sampled, and the batch sizes."""
    from palimpsest_stage.dp.noise import SecureGenerator  # noqa: PLC0415

    made = training(group, SecureGenerator(), expected_batch_size=EXPECTED, records=RECORDS)
    rows = [[number] for number in range(ROWS)][group.rank :: group.size]
    counts, sizes = [0] * ROWS, []
    for _ in range(STEPS):
        batch = made.sample(rows)
        sizes.append(len(batch))
        for row in batch:
            counts[row[0]] += 1
    return {"counts": counts, "sizes": sizes}


def sums(group: Group) -> Any:
    """The group's own calls."""
    from collections import Counter  # noqa: PLC0415

    import torch  # noqa: PLC0415

    total = group.reduce(torch.full((3,), 0.5 + group.rank, dtype=torch.float64))
    group.reduce_counts(Counter({"of before": 1}))
    counts = group.reduce_counts(Counter({"usable": 2, f"only {group.rank}": 1}))
    sent = group.broadcast(torch.full((2,), float(group.rank) + 7))
    number = group.broadcast_number(group.rank + 3)
    group.barrier()
    group.agree(b"same")
    return {
        "total": total.tolist(),
        "counts": counts,
        "sent": sent.tolist(),
        "number": number,
        "listening": listening(),
    }


def disagreement(group: Group) -> Any:
    """One rank has seen something else; it leaves, and what the others get."""
    from palimpsest_stage.errors import PeerLost  # noqa: PLC0415

    try:
        group.agree(b"other" if group.rank == 1 else b"same.")
    except PeerLost as error:
        return type(error).__name__
    return "agreed"


def listening() -> list[str]:
    """Local addresses that this process listens on, as the kernel writes them."""
    mine = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            address, state, inode = (line.split()[place] for place in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in mine:
                found.append(address.rpartition(":")[0])
    return found


def training(group: Group, generator: Any, **changes: Any) -> Any:
    """A Trainer of the group that keeps what it is given and what it releases."""
    from palimpsest_stage import train  # noqa: PLC0415
    from unit.stage.test_train import trainer  # noqa: PLC0415

    @dataclass(frozen=True)
    class Watched(train.Trainer):
        given: list[list[float]] = field(default_factory=list)
        released: list[list[float]] = field(default_factory=list)

        def clipped_sum(self, weights: Any, batch: Any) -> Any:
            self.given.append(weights.tolist())
            return super().clipped_sum(weights, batch)

        def update(self, state: Any, gradient: Any) -> Any:
            self.released.append(gradient.tolist())
            return super().update(state, gradient)

    one = trainer(**changes)
    return Watched(one.model, one.adapters, one.shape, one.parameters, generator, group=group)


SCENARIOS = {
    "stepping": stepping,
    "noise": noise,
    "inclusion": inclusion,
    "sums": sums,
    "disagreement": disagreement,  # the last: the group is broken
}


def main(processes: int, folder: Path) -> Outcome:
    world = World(processes=processes)

    def work(local: int) -> Word:
        from palimpsest_stage.distributed.group import ALONE  # noqa: PLC0415
        from palimpsest_stage.distributed.process_group import ProcessGroup  # noqa: PLC0415

        group = ALONE if world.size == 1 else ProcessGroup.join(world, local, folder)
        seen = {name: scenario(group) for name, scenario in SCENARIOS.items()}
        (folder / f"{local}.json").write_text(json.dumps(seen))
        return Word(Outcome.COMPLETED)

    return launch(world, work)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])) is not Outcome.COMPLETED)
