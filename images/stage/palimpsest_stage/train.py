"""Stage train: DP-SGD on LoRA adapters over private instructions. In custody.

Order is the guarantee: public checks, then the journal's start, then private data; an intent in
the journal before each block of steps, a checkpoint in custody after it. On several ranks the first
does all of that, and the others wait for its word at each of these places.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from palimpsest.api.task import PrivateInput, TrainParameters
from palimpsest.privacy.calibration import worst_case_steps
from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian
from torch import Tensor

from palimpsest_stage import lora
from palimpsest_stage.audit.observer import Observer
from palimpsest_stage.audit.scores import Scores
from palimpsest_stage.audit.verdict import gate
from palimpsest_stage.company import check_company
from palimpsest_stage.distributed.group import ALONE, Group
from palimpsest_stage.distributed.shards import Shard
from palimpsest_stage.dp.adam import Moments
from palimpsest_stage.dp.noise import SecureGenerator
from palimpsest_stage.dp.optimizer import optimizer_step, rate_share
from palimpsest_stage.dp.sgd import clipped_sum, noisy_mean, unusable
from palimpsest_stage.errors import ChargeRefused, InvalidTask
from palimpsest_stage.gradients import check_adapters, micro_batches, per_example_gradients
from palimpsest_stage.models import check_positions, checkpoint_blocks, load_causal, suit_length
from palimpsest_stage.private.checkpoints import Checkpoint, Checkpoints
from palimpsest_stage.private.custody import work_prefix
from palimpsest_stage.private.fence import Fence, check_paid
from palimpsest_stage.private.records import read_texts
from palimpsest_stage.runtime import Context, write_json
from palimpsest_stage.text import Layout, encode, layout

GENERATOR = "generator.json"


def run(context: Context, report: dict[str, Any]) -> None:
    """Publish the adapters in PEFT's layout, generator.json ({prompt, maxLength}), audit.json.

    Raises AuditFailed instead if an audit refutes the claim.
    """
    parameters, charge = context.parameters(TrainParameters), context.charge
    trainer, tokenizer = _prepare(context, parameters)

    group, store, state = context.group, context.stores[charge.store], trainer.initial()
    fence = Fence(store, charge, context.attempt_number)
    checkpoints = Checkpoints(store, work_prefix(charge), context.folder("checkpoints"))
    if group.leads:
        fence.start(mechanism(parameters), parameters.restarts, parameters.block_steps)
        checkpoint = checkpoints.latest()
        check_resumable(parameters, checkpoint, fence.intended_steps, fence.earlier_attempts)
        state = checkpoint.on(trainer.model.device) if checkpoint else state
    # The others go on from here, when the start stands in the journal.
    state = replace(state, steps=group.broadcast_number(state.steps))

    if state.steps < parameters.steps:
        examples = _read(context, trainer, tokenizer, report)
        report["gradients"] = trainer.findings
        batches = report["batches"] = []
        while state.steps < parameters.steps:
            block, steps = next_block(parameters, state.steps)
            if group.leads:
                fence.intent(block, steps)
            for _ in range(steps):
                # The others begin with weights that the leader sends, after its intent.
                state, size = trainer.step(state, examples)
                batches.append(size)
            if group.leads:
                checkpoints.save(context.attempt, block, state)

        report["gradients"] = group.reduce_counts(trainer.findings)

    if group.leads:
        _publish(context, trainer, state, report)
    group.barrier()


def _read(
    context: Context, trainer: "Trainer", tokenizer: Any, report: dict[str, Any]
) -> list[Sequence[int]]:
    """Token ids of the rank's own shard of the private records."""
    source, group = context.input("private", PrivateInput), context.group
    findings: Counter[str] = Counter()
    shard = Shard(group.rank, group.size)
    texts = read_texts(
        context.stores[source.store], source, context.folder("private"), findings, shard
    )
    examples: list[Sequence[int]] = [
        array("i", ids) for text in texts if (ids := encode(tokenizer, trainer.shape, text))
    ]
    # Had the listing changed between two ranks' readings, a record could count twice.
    group.agree(shard.seen())
    report["records"] = group.reduce_counts(findings)
    return examples


def _publish(
    context: Context, trainer: "Trainer", state: Checkpoint, report: dict[str, Any]
) -> None:
    settings = trainer.parameters
    out = context.folder("out")
    if settings.audit:
        gate(settings.audit, state.audit, report, out)
    trainer.adapters.write(state.weights)
    trainer.adapters.save(out)
    write_json(out / GENERATOR, {"prompt": settings.prompt, "maxLength": settings.max_length})
    context.publish({path.name: path for path in out.iterdir()})


def mechanism(parameters: TrainParameters) -> PoissonSubsampledGaussian:
    """What the charge must have reserved: the worst case. Raises InvalidTask."""
    try:
        return PoissonSubsampledGaussian(
            batch=parameters.expected_batch_size,
            records=parameters.records,
            noiseMultiplier=parameters.noise_multiplier,
            steps=worst_case_steps(parameters.steps, parameters.restarts, parameters.block_steps),
        )
    except ValueError as error:
        raise InvalidTask(f"parameters: {error}") from error


def next_block(parameters: TrainParameters, done: int) -> tuple[int, int]:
    """(number, steps) of the block that follows `done` steps."""
    block = done // parameters.block_steps
    return block, min(parameters.block_steps, parameters.steps - done)


def check_resumable(
    parameters: TrainParameters,
    checkpoint: Checkpoint | None,
    intended_steps: int,
    earlier_attempts: int,
) -> None:
    """Refuse a checkpoint ahead of the journal, one that lost blocks, and more than was reserved.

    An attempt loses its last block at most, so `intended_steps` less one block an attempt must be
    in the checkpoint. Raises ChargeRefused.
    """
    done = checkpoint.steps if checkpoint else 0
    check_paid(done, intended_steps)
    if done < intended_steps - earlier_attempts * parameters.block_steps:
        raise ChargeRefused("blocks were executed whose checkpoint is lost; never begin again")
    worst = worst_case_steps(parameters.steps, parameters.restarts, parameters.block_steps)
    if intended_steps + parameters.steps - done > worst:
        raise ChargeRefused("the steps that are left exceed what was reserved")


@dataclass(frozen=True)
class Trainer:
    """DP-SGD's loop body: the model with its adapters and the public settings.

    `findings` counts gradients that contributed zero; it stays in custody.
    """

    model: Any
    adapters: lora.Adapters
    shape: Layout
    parameters: TrainParameters
    generator: SecureGenerator
    observer: Observer | None = None
    findings: Counter[str] = field(default_factory=Counter)
    group: Group = ALONE

    def initial(self) -> Checkpoint:
        """Before the first step."""
        scores = None
        if self.observer:
            scores = Scores.toss(self.observer.canaries.count, self.generator)
        weights = self.adapters.read()
        return Checkpoint(0, weights, Moments.zero(weights), scores)

    def step(self, state: Checkpoint, examples: Sequence[Sequence[int]]) -> tuple[Checkpoint, int]:
        """(state after one step, realised batch size; the latter never leaves custody).

        `examples` are the rank's own shard. The leader alone adds canaries and, once, noise, and
        updates; the others take its weights, and of their state after the step only the number of
        steps counts.
        """
        weights = self.group.broadcast(state.weights)
        batch = self.sample(examples)
        total = self.group.reduce(self.clipped_sum(weights, batch))
        size = self.group.reduce_number(len(batch))
        if not self.group.leads:
            return replace(state, steps=state.steps + 1), size
        return self.update(state, self.noisy_mean(self.with_canaries(total, state))), size

    def sample(self, examples: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """A Poisson batch: each example independently, at the declared rate."""
        settings = self.parameters
        sampled = self.generator.poisson_sample(
            len(examples), settings.expected_batch_size, settings.records
        )
        return [examples[index] for index in sampled]

    def clipped_sum(self, weights: Tensor, batch: Sequence[Sequence[int]]) -> Tensor:
        """Sum of the examples' clipped gradients at `weights`, float64 (parameters,)."""
        settings = self.parameters
        self.adapters.write(weights)
        total = torch.zeros(self.adapters.size, dtype=torch.float64, device=self.model.device)
        for micro in micro_batches(batch, self.shape, settings.micro_batch_size):
            gradients = per_example_gradients(self.model, self.adapters, micro)
            total += clipped_sum(gradients, float(settings.clipping_norm))
            self.findings["not finite"] += unusable(gradients)
        return total

    def with_canaries(self, total: Tensor, state: Checkpoint) -> Tensor:
        """The sum (parameters,) and the clipped canaries of an audit that this step samples."""
        if self.observer and state.audit:
            norm = float(self.parameters.clipping_norm)
            for rows in self.observer.rows(state.audit, state.steps, self.generator):
                total = total + clipped_sum(rows.to(total.device), norm)
        return total

    def noisy_mean(self, total: Tensor) -> Tensor:
        """What a step releases. An empty batch's sum is zero and gets its noise all the same."""
        settings = self.parameters
        return noisy_mean(
            total,
            self.generator.normals(self.adapters.size, total.device),
            float(settings.noise_multiplier),
            float(settings.clipping_norm),
            settings.expected_batch_size,
        )

    def update(self, state: Checkpoint, gradient: Tensor) -> Checkpoint:
        """The optimizer's step, and the audit's look: post-processing of the noisy mean."""
        settings = self.parameters
        share = rate_share(settings.schedule, state.steps, settings.steps)
        weights, moments = optimizer_step(
            settings.optimizer,
            state.weights,
            state.moments,
            gradient,
            share * float(settings.learning_rate),
        )
        scores = state.audit
        if self.observer and scores:
            scores = self.observer.observed(scores, state.steps, gradient.cpu())
        return Checkpoint(state.steps + 1, weights, moments, scores)


def _prepare(context: Context, parameters: TrainParameters) -> tuple[Trainer, Any]:
    """All that can fail on public ground, before the charge is touched."""
    model, tokenizer = load_causal(context.model("base"), parameters.precision)
    check_positions(model, parameters.max_length, "training.maxLength")
    check_company(model, parameters.max_length)
    suit_length(model, parameters.max_length)
    try:
        shape = layout(tokenizer, parameters.prompt, parameters.max_length)
    except ValueError as error:
        raise InvalidTask(str(error)) from error
    torch.manual_seed(context.seed("adapters"))
    adapters = lora.Adapters(model, parameters.lora)
    if parameters.gradient_checkpointing:
        checkpoint_blocks(model)
    check_adapters(model, adapters, shape, parameters.micro_batch_size)
    observer = None
    if parameters.audit:
        seed = context.seed("canaries")
        observer = Observer.of(parameters, parameters.audit, adapters.size, seed)
    generator, group = SecureGenerator(), context.group
    trainer = Trainer(model, adapters, shape, parameters, generator, observer, group=group)
    return trainer, tokenizer
