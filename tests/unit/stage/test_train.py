"""The private stages as programs, on a real store with a real journal."""

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from faults.proxy import Call, Exchange, Proxy
from palimpsest.api.generator import Lora
from palimpsest.api.task import FileInput, HistogramParameters, Task, TrainParameters, sha256_digest
from palimpsest.privacy.mechanisms import DiscreteGaussian
from palimpsest_stage import histogram, train
from palimpsest_stage.clustering.partition import Partition
from palimpsest_stage.dp.noise import SecureGenerator
from palimpsest_stage.errors import ChargeRefused, ModelUnsuitable
from palimpsest_stage.lora import Adapters
from palimpsest_stage.private.checkpoints import Checkpoint
from palimpsest_stage.private.custody import work_prefix
from palimpsest_stage.private.records import read_texts
from palimpsest_stage.runtime import Context
from unit.stage.families import LLAMA, family_model
from unit.stage.ground import FIELD, Ended, Ground
from unit.stage.tiny import LAYOUT, WORDS, examples, tiny_encoder, tiny_model
from unit.stage.training import RECORDS, parameters, reserved

# Long enough to be killed in: one example a pass.
SLOW = {"micro_batch_size": 1, "expected_batch_size": 128}
SECRET = "zebra-canary"


def lines() -> list[bytes]:
    good = [json.dumps({FIELD: f"is {SECRET} number {i} so"}).encode() for i in range(150)]
    return [*good, b"not json", b'{"other": 1}', json.dumps({FIELD: "x" * 100_000}).encode()]


def training(ground: Ground, folder: Path, **changes: Any) -> Task:
    """A training task over `lines`, its worst case reserved as the operator does."""
    return reserved(ground, folder, ground.push_records(lines()), **changes)


def kinds(ground: Ground) -> list[str]:
    return [entry["kind"] for entry in ground.entries()]


def silent(ended: Ended) -> bool:
    """Whether the process said its outcome's line and nothing else."""
    return len(ended.said.splitlines()) == 1 and json.loads(ended.said)["outcome"] == ended.outcome


def wait_for_intents(ground: Ground, count: int) -> None:
    """After open, reserve and start; looks at one object only, to be quicker than a block."""
    store, last = ground.store("operator"), f"{ground.journal().location}{2 + count:012d}.json"
    deadline = time.monotonic() + 120
    while not store.exists(last):
        assert time.monotonic() < deadline, "the stage wrote no intent"
        time.sleep(0.01)


def test_a_killed_training_goes_on_from_its_checkpoint_and_is_charged_for_what_it_did(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder, **SLOW)
    first = ground.start(task)
    wait_for_intents(ground, 2)
    first.process.send_signal(signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL

    ended = ground.run(task, attempt=2)
    assert (ended.code, ended.outcome) == (0, "Completed")
    assert silent(ended)
    said = [(e["kind"], e["body"].get("block")) for e in ground.entries()[2:]]
    assert said[0] == ("start", None)
    resumed = said.index(("start", None), 1)
    before, after = said[1:resumed], said[resumed + 1 :]
    # The block that was under way is done again, and none before it.
    assert after == [("intent", block) for block in range(before[-1][1], 3)]
    charge = ground.journal().refresh().charge(task.charge.id if task.charge else "")
    assert charge.intended_steps == 2 * (len(before) + len(after)) <= 6 + 2

    names = {file.path.rsplit("/", 1)[-1] for file in ground.manifest(task.output).files}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "generator.json"}
    public = [ground.store("root").get(uri) for uri in ground.store("root").list(task.output.uri)]
    assert not any(SECRET.encode() in data for data in public)
    report = ground.reports()[-1]
    assert report["records"] == {"usable": 151, "not JSON": 1, "no such text field": 1}

    again = ground.run(task, attempt=3)
    assert (again.code, again.outcome) == (0, "Completed")
    assert kinds(ground).count("start") == 2


def test_a_model_larger_than_scratch_costs_nothing(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder)
    ended = ground.start(task, room=10_000).wait()
    assert (ended.outcome, silent(ended)) == ("OutOfResources", True)
    assert kinds(ground) == ["open", "reserve"]


def test_a_lost_checkpoint_ends_the_charge(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder, restarts=3, **SLOW)
    first = ground.start(task)
    wait_for_intents(ground, 2)
    first.process.kill()
    first.wait()
    work = ground.journal().location.removesuffix("ledger/") + "work/"
    for uri in list(ground.store("root").list(work)):
        ground.store("root").delete(uri)
    ended = ground.run(task, attempt=2)
    assert (ended.code, ended.outcome) == (78, "ChargeRefused")
    assert silent(ended)
    assert kinds(ground).count("intent") == 2
    assert "checkpoint is lost" in ground.reports()[-1]["error"]


def test_sigterm_interrupts_and_can_be_tried_again(ground: Ground, model_folder: Path) -> None:
    task = training(ground, model_folder, **SLOW)
    running = ground.start(task)
    wait_for_intents(ground, 1)
    running.process.terminate()
    ended = running.wait()
    assert (ended.code, ended.outcome) == (75, "Interrupted")
    assert silent(ended)


# 20 seconds of it are the patience that is tested.
@pytest.mark.full
def test_sigterm_interrupts_before_the_pod_is_killed_though_the_store_hangs(
    ground: Ground, model_folder: Path
) -> None:
    frozen: list[Call] = []

    async def hang(exchange: Exchange) -> None:
        frozen.append(exchange.call)
        await exchange.abandoned()

    with Proxy(ground.endpoint) as proxy:
        task = training(replace(ground, endpoint=proxy.endpoint), model_folder, **SLOW)
        running = ground.start(task)
        wait_for_intents(ground, 1)
        proxy.watch(lambda _: hang)
        deadline = time.monotonic() + 120
        while not frozen:
            assert time.monotonic() < deadline, "the stage asked nothing more"
            time.sleep(0.01)
        asked = time.monotonic()
        running.process.terminate()
        ended = running.wait()
    # Of 30 seconds of grace.
    assert time.monotonic() - asked < 25
    assert (ended.code, ended.outcome) == (75, "Interrupted")


def test_parameters_that_were_not_reserved_are_refused_before_the_start(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder)
    assert isinstance(task.parameters, TrainParameters)
    for change in (
        {"noise_multiplier": "1.4"},
        {"expected_batch_size": 65},
        {"steps": 7},
        {"restarts": 2, "steps": 4},
    ):
        other = task.parameters.model_copy(update=change)
        context = Context(task.model_copy(update={"parameters": other}), ground.environment(task))
        with pytest.raises(Exception, match="reserved another mechanism"):
            train.run(context, {})
    assert kinds(ground) == ["open", "reserve"]


def test_private_data_is_opened_after_the_start_and_a_block_after_its_intent(
    ground: Ground, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = training(ground, model_folder)
    read, step = read_texts, train.Trainer.step
    steps = []

    def reading(*given: Any) -> Iterator[str]:
        assert kinds(ground)[-1] == "start"
        return read(*given)

    def stepping(self: Any, state: Any, rows: Any) -> Any:
        intended = sum(e["body"]["steps"] for e in ground.entries() if e["kind"] == "intent")
        assert state.steps < intended
        steps.append(state.steps)
        return step(self, state, rows)

    monkeypatch.setattr(train, "read_texts", reading)
    monkeypatch.setattr(train.Trainer, "step", stepping)
    train.run(Context(task, ground.environment(task)), {})
    assert steps == list(range(6))


def trainer(**changes: Any) -> train.Trainer:
    model = tiny_model()
    torch.manual_seed(1)
    adapters = Adapters(model, Lora(rank=2, alpha=4))
    return train.Trainer(model, adapters, LAYOUT, parameters(**changes), SecureGenerator())


def test_an_empty_batch_adds_noise_to_zero_and_steps() -> None:
    one = trainer()
    before = one.initial()
    after, size = one.step(before, [])
    assert (size, after.steps) == (0, 1)
    assert not torch.equal(after.weights, before.weights)
    # Adam's first moment is a tenth of the gradient: sigma C / expected batch, whatever the
    # realised one. Five standard errors of a standard deviation.
    gradient = after.moments.first * 10
    n = len(gradient)
    expected = 1.5 * 0.5 / 64
    assert abs(float(gradient.std()) / expected - 1) < 5 / math.sqrt(2 * n)
    assert abs(float(gradient.mean())) < 5 * expected / math.sqrt(n)


def test_two_runs_and_two_steps_share_no_noise() -> None:
    one, other = trainer(), trainer()
    start = one.initial()
    noises = [run.step(start, [])[0].moments.first for run in (one, one, other)]
    n = len(noises[0])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        correlation = torch.corrcoef(torch.stack([noises[a], noises[b]]))[0, 1]
        assert abs(float(correlation)) < 5 / math.sqrt(n)


def test_a_step_without_noise_is_the_clipped_sum_over_the_expected_batch() -> None:
    # With the rate at one every example is in, so the step is determined.
    rows = examples(10)
    sums = []
    for size in (1, 3, 10):
        one = trainer(expected_batch_size=200, noise_multiplier="0.000001", micro_batch_size=size)
        state, realised = one.step(one.initial(), rows)
        assert realised == 10
        sums.append(state.moments.first * 10 * 200)
    assert float(sums[0].norm()) <= 10 * 0.5
    for other in sums[1:]:
        assert float((other - sums[0]).norm() / sums[0].norm()) < 1e-4


def test_the_sampling_rate_is_the_declared_one_whatever_the_actual_count() -> None:
    one = trainer(expected_batch_size=20)
    rows, state = examples(10), one.initial()
    drawn = sum(one.step(state, rows)[1] for _ in range(40))
    # 400 chances at 20/200; six standard errors (false alarms: 2e-9).
    assert abs(drawn - 40) < 6 * math.sqrt(400 * 0.1 * 0.9)


def test_what_fails_or_prints_on_private_data_leaves_the_closed_word_alone(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder)
    program = """
import os
from palimpsest_stage import main, train

def reading(store, source, *rest):
    uri = next(iter(store.list(source.uri)))
    line = store.get(uri)[:40]
    print(line, flush=True)
    os.write(2, line)
    raise RuntimeError(line)

train.read_texts = reading
main.main()
"""
    ended = ground.start(task, program=[sys.executable, "-c", program]).wait()
    assert (ended.code, ended.outcome) == (70, "InternalError")
    assert silent(ended)
    assert SECRET not in ended.said
    assert SECRET in ground.reports()[-1]["error"]


@pytest.mark.parametrize(
    ("intended", "earlier", "done", "refused"),
    [
        (0, 0, 0, False),
        (2, 1, 0, False),  # killed in its first block
        (4, 1, 2, False),
        (4, 1, 0, True),  # the first block's checkpoint is gone
        (6, 1, 6, False),  # killed while publishing
        (6, 1, 2, True),
        (8, 2, 4, True),  # more left than was reserved
        (2, 1, 4, True),  # ahead of the journal
        (0, 0, 6, True),  # done, and nothing of it journaled
    ],
)
def test_resuming_never_begins_again_nor_exceeds_the_reservation(
    intended: int, earlier: int, done: int, refused: bool
) -> None:
    one = trainer()
    start = one.initial()
    checkpoint = Checkpoint(done, start.weights, start.moments) if done else None
    if refused:
        with pytest.raises(ChargeRefused):
            train.check_resumable(one.parameters, checkpoint, intended, earlier)
    else:
        train.check_resumable(one.parameters, checkpoint, intended, earlier)


def test_a_lost_checkpoint_is_not_made_up_for_by_restarts_that_are_left() -> None:
    """The reservation would still cover all steps anew; the noise already released would not."""
    one = trainer(restarts=3)
    with pytest.raises(ChargeRefused, match="checkpoint is lost"):
        train.check_resumable(one.parameters, None, intended_steps=4, earlier_attempts=1)


def counting(ground: Ground, folder: Path, encoder: str = "bert") -> Task:
    """A histogram of ninety records, reserved as the operator does."""
    drawn = torch.randn(4, 48, generator=torch.Generator().manual_seed(0))
    partition = Partition(torch.zeros(48), torch.eye(48), drawn)
    data = partition.save(folder / "partition").read_bytes()
    uri = "s3://releases/inbox/centroids.safetensors"
    ground.store("root").put(uri, data)
    texts = [json.dumps({FIELD: f"{WORDS[i % 60]} w{i % 7}"}).encode() for i in range(90)]
    model = tiny_encoder(folder / encoder, encoder)
    task = ground.task(
        HistogramParameters(records=RECORDS, noise_multiplier="2", restarts=2),
        {
            "embedder": ground.push_model(model, f"s3://models/{encoder}/"),
            "private": ground.push_records([*texts, b"bad"]),
            "centroids": FileInput(store="releases", uri=uri, digest=sha256_digest(data)),
        },
        "releases",
    )
    ground.reserve(task, DiscreteGaussian(noiseMultiplier="2"), restarts=2)
    return task


def test_a_histogram_is_drawn_once_however_often_it_is_tried(
    ground: Ground, tmp_path: Path
) -> None:
    task = counting(ground, tmp_path)
    ended = ground.run(task)
    assert (ended.code, ended.outcome) == (0, "Completed")
    assert silent(ended)
    first = ground.read(task.output, "histogram.json")
    noisy = json.loads(first)["noisy"]
    # Ninety votes and four draws of standard deviation 2: eight standard errors.
    assert abs(sum(noisy) - 90) < 8 * 2 * 2
    assert kinds(ground)[2:] == ["start", "intent"]

    ground.store("root").delete(f"{task.output.uri}manifest.json")
    assert ground.run(task, attempt=2).code == 0
    assert ground.read(task.output, "histogram.json") == first
    assert kinds(ground)[2:] == ["start", "intent", "start"]

    # What custody kept is lost: other noise over the same votes would be a second release.
    assert task.charge is not None
    ground.store("root").delete(f"{task.output.uri}manifest.json")
    ground.store("root").delete(f"{work_prefix(task.charge)}{histogram.HISTOGRAM}")
    assert ground.run(task, attempt=3).outcome == "ChargeRefused"
    assert kinds(ground)[5:] == ["start"]
    left = ground.store("root").list(task.output.uri)
    assert {ground.store("root").get(uri) for uri in left} == {first}


def test_a_histogram_that_the_journal_does_not_know_is_not_published(
    ground: Ground, tmp_path: Path
) -> None:
    task = counting(ground, tmp_path)
    assert task.charge is not None
    kept = f"{work_prefix(task.charge)}{histogram.HISTOGRAM}"
    ground.store("custodian").put(kept, b'{"noisy":[90,0,0,0]}')
    with pytest.raises(ChargeRefused, match="result of 1 steps, but the journal intends 0"):
        histogram.run(Context(task, ground.environment(task)), {})
    assert not list(ground.store("root").list(task.output.uri))
    assert kinds(ground) == ["open", "reserve", "start"]


def test_an_embedder_that_fails_at_the_longest_text_costs_nothing(
    ground: Ground, tmp_path: Path
) -> None:
    task = counting(ground, tmp_path, "roberta")
    with pytest.raises(ModelUnsuitable, match="embedder"):
        histogram.run(Context(task, ground.environment(task)), {})
    assert kinds(ground) == ["open", "reserve"]


@pytest.mark.parametrize("stage", ["train", "histogram"])
def test_a_model_that_answers_by_company_costs_nothing(
    ground: Ground, model_folder: Path, tmp_path: Path, stage: str
) -> None:
    if stage == "train":
        mixture = copytree(model_folder, tmp_path / "mixture")
        sizes = LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2}
        family_model("mixtral", **sizes).save_pretrained(mixture)
        task, run = training(ground, mixture), train.run
    else:
        task, run = counting(ground, tmp_path, "mixtral"), histogram.run
    with pytest.raises(ModelUnsuitable, match="a mixture of experts"):
        run(Context(task, ground.environment(task)), {})
    assert kinds(ground) == ["open", "reserve"]


def test_records_longer_than_the_model_has_positions_cost_nothing(
    ground: Ground, model_folder: Path
) -> None:
    task = training(ground, model_folder, max_length=264)
    said = r"^training\.maxLength: sequences of 264 tokens are longer than the 256 positions"
    with pytest.raises(ModelUnsuitable, match=said):
        train.run(Context(task, ground.environment(task)), {})
    assert kinds(ground) == ["open", "reserve"]
