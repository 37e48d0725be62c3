"""The pipeline on a real node: it converges under faults, and its guarantees hold all the same."""

from __future__ import annotations

import json

from demo import install, summary, verification
from demo.checker import journal, receipts
from demo.checker.artifacts import of_stage, verify
from e2e.run import Pipeline
from e2e.specs import BLOCK, RESTARTS, STEPS
from palimpsest.api.outcomes import MESSAGES


def test_every_resource_is_ready(pipeline: Pipeline) -> None:
    assert {(r["kind"], r["metadata"]["name"]) for r in pipeline.resources} == (
        pipeline.specs.every_method
    )


def test_private_stages_ran_in_custody_only(pipeline: Pipeline) -> None:
    assert summary.private_namespaces(pipeline.ground.tools) == {install.CUSTODY}


def test_denied_generator_never_had_a_job_or_pod(pipeline: Pipeline) -> None:
    assert pipeline.refused is not None
    assert "does not fit" in pipeline.refused.text
    assert (pipeline.refused.jobs, pipeline.refused.pods) == (0, 0)


def test_deleted_training_was_resumed_within_its_reservation(pipeline: Pipeline) -> None:
    charges = list(pipeline.replay().charges.values())
    (training,) = (c for c in charges if c.mechanism["kind"] == "poisson-subsampled-gaussian")
    assert training.attempts == 2
    assert STEPS <= training.steps <= STEPS + RESTARTS * BLOCK
    assert training.state == "committed"
    assert training.cost <= training.reserve["cost"]


def test_journal_is_sound_and_not_overspent(pipeline: Pipeline) -> None:
    told = journal.figures(pipeline.replay())
    assert [charge["stage"] for charge in told["charges"]] == ["train", "histogram"]
    assert all(charge["state"] == "committed" for charge in told["charges"])
    assert 0 < told["shareCommitted"] <= 1
    assert told["shareReserved"] == 0


def test_every_release_has_a_receipt_that_others_can_check(pipeline: Pipeline) -> None:
    replay = pipeline.replay()
    told = receipts.audit(
        pipeline.bucket,
        pipeline.artifacts(),
        receipts.public_keys(install.receipt_keys(pipeline.ground.tools)),
        {name: {"state": c.state, "cost": c.cost} for name, c in replay.charges.items()},
        replay.digests,
    )
    assert sorted(receipt["stage"] for receipt in told) == ["histogram", "train"]
    assert all(receipt["spent"]["epsilonPLD"] for receipt in told)


def test_the_products_own_verification_finds_it_sound(pipeline: Pipeline) -> None:
    said = verification.run(pipeline.specs.name, pipeline.ground)
    assert f"{pipeline.specs.name}: sound" in said
    assert "2 signed receipts" in said


def test_operator_was_replaced_in_mid_run(pipeline: Pipeline) -> None:
    assert pipeline.operator_after
    assert not pipeline.operator_before & pipeline.operator_after


def test_every_artifact_has_the_digests_it_states(pipeline: Pipeline) -> None:
    found = pipeline.artifacts()
    stages = {artifact.stage for artifact in found}
    dataset = {"sample", "cluster", "histogram", "select", "annotate", "card"}
    assert stages >= {"train", *dataset, "sft", "reward", "dpo", "rlhf"}
    assert verify(pipeline.bucket, found) == []


def test_data_set_has_the_size_that_was_asked_for(pipeline: Pipeline) -> None:
    dataset = (install.TENANT, pipeline.specs.name)
    pool = of_stage(pipeline.artifacts(), "sample", dataset)
    (selected,) = of_stage(pipeline.artifacts(), "select", dataset)
    rows = [row["id"] for part in pool for row in part.lines(pipeline.bucket, "instructions.jsonl")]
    chosen = [row["id"] for row in selected.lines(pipeline.bucket, "selected.jsonl")]
    assert len(rows) == len(set(rows)) == 64
    assert len(chosen) == len(set(chosen)) == 24
    assert set(chosen) <= set(rows)


def test_data_set_and_models_carry_their_guarantee_and_receipts(pipeline: Pipeline) -> None:
    found, bucket = pipeline.artifacts(), pipeline.bucket
    receipts_of = [
        f"{one.prefix}receipt.json" for one in found if one.stage in ("train", "histogram")
    ]
    runs = pipeline.specs.runs
    for stage, name in {"card": pipeline.specs.name, **runs}.items():
        (published,) = of_stage(found, stage, (install.TENANT, name))
        text = published.read(bucket, "README.md").decode()
        assert "(epsilon 4.5, delta 1e-3)-differentially private" in text
        assert [uri for uri in receipts_of if uri not in text] == []


def test_every_method_published_what_it_learnt(pipeline: Pipeline) -> None:
    found, bucket, runs = pipeline.artifacts(), pipeline.bucket, pipeline.specs.runs
    (sft,), (dpo,), (rlhf,) = (
        of_stage(found, stage, (install.TENANT, name)) for stage, name in runs.items()
    )
    assert sft.entry("model.safetensors")["size"] > 0
    # Asked not to merge.
    assert dpo.entry("adapter_model.safetensors")["size"] > 0
    pairs = json.loads(dpo.read(bucket, "training.json"))
    assert pairs["pairs"] + pairs["ties"] + pairs["withoutChoice"] + pairs["tooLong"] == 24
    (reward,) = of_stage(found, "reward", (install.TENANT, runs["dpo"]))
    told = json.loads(reward.read(bucket, "reward.json"))
    assert (told["pairs"], told["heldOut"]["pairs"]) == (36, 4)
    assert len(json.loads(rlhf.read(bucket, "training.json"))["steps"]) == 2
    judged = json.loads(rlhf.read(bucket, "evaluation.json"))["judge"]
    assert judged["wins"] + judged["losses"] + judged["ties"] == 4


def test_tenants_keys_open_neither_records_nor_journal(pipeline: Pipeline) -> None:
    tenant = pipeline.access("tenant")
    assert not tenant.may_read(f"{pipeline.specs.data}part-0000.jsonl")
    entry = f"s3://private/.palimpsest/{pipeline.specs.name}/ledger/000000000000.json"
    assert not tenant.may_read(entry)
    assert pipeline.access("custodian").may_read(entry)


def test_operators_keys_do_not_open_records(pipeline: Pipeline) -> None:
    operator = pipeline.access("operator")
    assert not operator.may_read(f"{pipeline.specs.data}part-0000.jsonl")


def test_custody_speaks_in_fixed_messages_only(pipeline: Pipeline) -> None:
    said = set()
    for pod in pipeline.ground.tools.get("pods", "-n", install.CUSTODY)["items"]:
        for status in pod["status"].get("containerStatuses", []):
            ended = status["state"].get("terminated") or {}
            said.add(ended.get("message", ""))
    allowed = {
        f'{{"outcome": "{outcome.value}", "message": "{text}"}}'
        for outcome, text in MESSAGES.items()
    }
    assert said <= allowed | {""}
    assert said & allowed
