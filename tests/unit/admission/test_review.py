"""The admission decision, for requests as the API server sends them."""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import samples
from palimpsest.admission.fit import Budget
from palimpsest.admission.review import Decision, review
from palimpsest.api.budget import PrivacyBudgetSpec, PrivacyBudgetStatus
from palimpsest.api.dataset import SyntheticDatasetSpec
from palimpsest.api.generator import PrivateGeneratorSpec
from palimpsest.api.refusals import Refusal
from palimpsest.privacy.gate import choose_order, renyi_cost, rho
from palimpsest.privacy.pricing import limit_of, planned_mechanisms, price_training

Json = dict[str, Any]


@dataclass
class Known:
    """A cluster that holds what it is given."""

    budgets: dict[str, Budget] = field(default_factory=dict)
    generators: dict[tuple[str, str], PrivateGeneratorSpec] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    datasets: dict[tuple[str, str], SyntheticDatasetSpec] = field(default_factory=dict)

    def budget(self, name: str) -> Budget | None:
        return self.budgets.get(name)

    def generator(self, namespace: str, name: str) -> PrivateGeneratorSpec | None:
        return self.generators.get((namespace, name))

    def dataset(self, namespace: str, name: str) -> SyntheticDatasetSpec | None:
        return self.datasets.get((namespace, name))

    def labels(self, namespace: str) -> dict[str, str]:
        return self.namespaces[namespace]

    def private(self) -> dict[str, str]:
        return {name: budget.spec.dataset.uri for name, budget in self.budgets.items()}


def cluster(
    manifest: Json | None = None,
    left: str = "1.0000",
    order: int | None = None,
    observed: int = 1,
    charges: list[Json] | None = None,
) -> Known:
    """The sample budget with a journal of which `left` is left, and the sample generator."""
    manifest = manifest or samples.budget()
    spec = PrivacyBudgetSpec.model_validate(manifest["spec"])
    status = PrivacyBudgetStatus.model_validate(
        {
            "observedGeneration": observed,
            "gateOrder": order or choose_order(planned_mechanisms(spec), limit_of(spec)),
            "shares": {
                "committed": str(1 - Decimal(left)),
                "reserved": "0.0000",
                "left": left,
            },
            "charges": charges or [],
        }
    )
    name = manifest["metadata"]["name"]
    generator = PrivateGeneratorSpec.model_validate(samples.generator()["spec"])
    dataset = SyntheticDatasetSpec.model_validate(samples.dataset()["spec"])
    return Known(
        {name: Budget(name, 1, spec, status)},
        {("research", "questions"): generator},
        datasets={("research", "questions"): dataset},
    )


def ask(
    manifest: Json, known: Known, operation: str = "CREATE", old: Json | None = None
) -> Decision:
    return review(
        {
            "uid": "1",
            "kind": {"group": "palimpsest.dev", "version": "v1alpha1", "kind": manifest["kind"]},
            "operation": operation,
            "namespace": manifest["metadata"].get("namespace", ""),
            "name": manifest["metadata"]["name"],
            "object": None if operation == "DELETE" else manifest,
            "oldObject": manifest if operation == "DELETE" else old,
        },
        known,
    )


def test_what_fits_is_admitted_in_silence() -> None:
    assert ask(samples.generator(), cluster()) == Decision(True)
    assert ask(samples.dataset(), cluster()) == Decision(True)
    assert ask(samples.budget(), Known()) == Decision(True)
    assert ask(samples.alignment(), cluster()) == Decision(True)


def test_an_epsilon_that_does_not_fit_is_denied_with_one_that_does() -> None:
    known = cluster(left="0.1000")
    decision = ask(samples.generator(), known)
    assert not decision.allowed
    assert decision.message.startswith("spec.privacy.epsilon: 4 does not fit: at most ")
    assert decision.message.endswith(
        "left at this batch size and number of steps (needs 23% of the gate of PrivacyBudget "
        '"chat", 10% is left)'
    )
    most = decision.message.split("at most ")[1].split(" ")[0]
    advised = samples.changed(samples.generator(), "spec.privacy.epsilon", most)
    assert ask(advised, known).allowed
    beyond = str(Decimal(most) + Decimal("0.03"))
    assert not ask(
        samples.changed(samples.generator(), "spec.privacy.epsilon", beyond), known
    ).allowed


def test_nothing_left_says_so() -> None:
    message = ask(samples.generator(), cluster(left="0.0000")).message
    assert "nothing is left for a training at this batch size and number of steps" in message


def test_the_worst_case_is_what_must_fit() -> None:
    """Restarts and their interval cost too: what fits alone may not fit with them."""
    spec = PrivacyBudgetSpec.model_validate(samples.budget()["spec"])
    order = choose_order(planned_mechanisms(spec), limit_of(spec))
    units = rho(limit_of(spec).epsilon, limit_of(spec).delta, order)
    calm = samples.generator()
    restless = samples.changed(
        samples.changed(calm, "spec.training.restarts", 10), "spec.training.checkpointInterval", 440
    )

    def share(manifest: Json) -> Decimal:
        training = price_training(PrivateGeneratorSpec.model_validate(manifest["spec"]), spec)
        return Decimal(renyi_cost(training, order)) / units

    low, high = sorted((share(calm), share(restless)))
    assert high - low > Decimal("0.001")
    known = cluster(left=str(((low + high) / 2).quantize(Decimal("0.0001"))))
    dear, cheap = (calm, restless) if share(calm) == high else (restless, calm)
    assert not ask(dear, known).allowed
    assert ask(cheap, known).allowed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.privacy.epsilon", "0.29", "spec.privacy.epsilon: 0.29 is below 0.3"),
        (
            "spec.training.expectedBatchSize",
            180_001,
            "spec.training.expectedBatchSize: 180001 is more than the 180000 records that "
            'PrivacyBudget "chat" declares',
        ),
        (
            "metadata.namespace",
            "search",
            'metadata.namespace: PrivacyBudget "chat" does not allow namespace search',
        ),
        (
            "spec.baseModel.uri",
            "s3://models/other/",
            "spec.baseModel: s3://models/other/ is not one of the allowedModels",
        ),
        ("spec.baseModel.digest", "sha256:" + "b" * 64, "spec.baseModel: s3://models/generator/"),
        ("spec.privacy.epsilon", "100000", "spec.privacy.epsilon: 100000 would need less noise"),
    ],
)
def test_generators_are_denied_by_field(path: str, value: Any, message: str) -> None:
    decision = ask(samples.changed(samples.generator(), path, value), cluster())
    assert not decision.allowed
    assert message in decision.message


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(Known(), id="no-budget"),
        pytest.param(cluster(left="0.0000", observed=0), id="status-of-an-older-spec"),
    ],
)
def test_what_cannot_be_judged_yet_is_admitted_and_held(known: Known) -> None:
    assert ask(samples.generator(), known).allowed
    assert ask(samples.dataset(), known).allowed


def test_a_budget_without_status_is_admitted_and_held() -> None:
    known = cluster(left="0.0000")
    budget = known.budgets["chat"]
    known.budgets["chat"] = Budget(budget.name, 1, budget.spec, None)
    assert ask(samples.generator(), known).allowed


def test_a_missing_budget_is_told() -> None:
    (warning,) = ask(samples.generator(), Known()).warnings
    assert warning == (
        'spec.budgetRef.name: PrivacyBudget "chat" does not exist yet; the resource waits for it'
    )


def test_a_resource_applied_again_finds_its_charge() -> None:
    charge = {
        "id": "sha256:1",
        "subject": "PrivateGenerator/research/questions",
        "mechanism": "DP-SGD",
        "state": "Committed",
        "share": "1.0000",
    }
    assert ask(samples.generator(), cluster(left="0.0000", charges=[charge])).allowed
    other = samples.generator("others")
    assert not ask(other, cluster(left="0.0000", charges=[charge])).allowed
    released = {**charge, "state": "Released"}
    assert not ask(samples.generator(), cluster(left="0.0000", charges=[released])).allowed


def test_a_generator_that_leaves_no_room_for_its_histogram_is_told() -> None:
    needed = _share_of_the_sample()
    known = cluster(left=str(needed + Decimal("0.0010")))
    decision = ask(samples.generator(), known)
    assert decision.allowed
    assert "leaves no room for the histogram" in decision.warnings[0]


def _share_of_the_sample() -> Decimal:
    spec = PrivacyBudgetSpec.model_validate(samples.budget()["spec"])
    order = choose_order(planned_mechanisms(spec), limit_of(spec))
    training = price_training(
        PrivateGeneratorSpec.model_validate(samples.generator()["spec"]), spec
    )
    units = rho(limit_of(spec).epsilon, limit_of(spec).delta, order)
    return (Decimal(renyi_cost(training, order)) / units).quantize(Decimal("0.0001"))


def test_a_histogram_that_does_not_fit_is_denied_with_noise_that_does() -> None:
    known = cluster(left="0.0010")
    decision = ask(samples.dataset(), known)
    assert decision.message.startswith(
        "spec.resampling.noiseMultiplier: 10 does not fit: the noise multiplier must be at least "
    )
    least = decision.message.split("at least ")[1].split(" ")[0]
    path = "spec.resampling.noiseMultiplier"
    assert ask(samples.changed(samples.dataset(), path, least), known).allowed
    below = str(Decimal(least) - Decimal("0.05"))
    assert not ask(samples.changed(samples.dataset(), path, below), known).allowed


def test_an_embedder_beside_private_data_must_be_allowed() -> None:
    manifest = samples.changed(
        samples.dataset(), "spec.resampling.embedder.uri", "s3://models/other/"
    )
    message = ask(manifest, cluster()).message
    assert message.startswith("spec.resampling.embedder: s3://models/other/ is not one of")


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [
        ({"baseURL": "http://models.research.svc/v1", "secretName": "annotator"}, True),
        ({"baseURL": "http://models.research.svc/v1"}, False),
        ({"baseURL": "https://api.example.com/v1", "secretName": "annotator"}, False),
    ],
)
def test_a_key_sent_in_the_clear_is_told(endpoint: Json, warned: bool) -> None:
    manifest = samples.dataset(annotation={"endpoint": {**endpoint, "model": "large-1"}})
    decision = ask(manifest, cluster())
    assert decision.allowed
    assert [each for each in decision.warnings if "Secret annotator" in each] == [
        *decision.warnings
    ]
    assert bool(decision.warnings) == warned


def test_a_run_s_keys_are_told_by_their_field() -> None:
    endpoint = {"baseURL": "http://models.svc/v1", "model": "large-1", "secretName": "judge"}
    evaluation = samples.alignment()["spec"]["evaluation"] | {"judge": {"endpoint": endpoint}}
    reward = {"endpoint": {**endpoint, "model": "large-2"}}
    manifest = samples.alignment(method="DPO", reward=reward, evaluation=evaluation)
    ranker, judge = ask(manifest, cluster()).warnings
    assert ranker.startswith("spec.reward.endpoint.baseURL: over http the key of Secret judge")
    assert judge.startswith("spec.evaluation.judge.endpoint.baseURL: over http")


def test_clusters_too_many_for_the_records_are_told() -> None:
    few = samples.changed(samples.dataset(), "spec.resampling.clusters", 4501)
    bigger = samples.changed(few, "spec.sampling.count", 10_000)
    (warning,) = ask(bigger, cluster()).warnings
    assert "take at most 4500 clusters" in warning
    advised = samples.changed(bigger, "spec.resampling.clusters", 4500)
    assert ask(advised, cluster()).warnings == ()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"evaluation": {"prompts": "{}", "digest": samples.DIGEST}}, "evaluation.prompts"),
        (
            {"method": "DPO", "dpo": {"preferences": {"uri": "{}", "digest": samples.DIGEST}}},
            "dpo.preferences.uri",
        ),
        (
            {
                "method": "RLHF",
                "reward": {"trained": {"preferences": {"uri": "{}", "digest": samples.DIGEST}}},
            },
            "reward.trained.preferences.uri",
        ),
    ],
)
def test_private_records_are_no_public_file(spec: Json, field: str) -> None:
    known = cluster()
    private = next(iter(known.budgets.values())).spec.dataset.uri
    named = json.loads(json.dumps(spec).replace("{}", f"{private}part-0000.jsonl"))
    decision = ask(samples.alignment(**named), known)
    assert not decision.allowed
    assert decision.message.startswith(f"spec.{field}: {private}part-0000.jsonl lies among")
    beside = json.loads(json.dumps(spec).replace("{}", "s3://outputs/public.jsonl"))
    assert ask(samples.alignment(**beside), known) == Decision(True)
    (warning,) = ask(samples.alignment(**named), Known()).warnings
    assert "SyntheticDataset" in warning


def test_another_budget_s_records_are_as_private_and_its_name_is_not_told() -> None:
    known = cluster()
    (own,) = known.budgets.values()
    place = own.spec.dataset.uri
    elsewhere = samples.changed(samples.budget(), "spec.dataset.uri", "s3://private/letters/")
    spec = PrivacyBudgetSpec.model_validate(elsewhere["spec"])
    known.budgets["secret-letters"] = Budget("secret-letters", 1, spec, None)
    among = {"prompts": "s3://private/letters/part-0000.jsonl", "digest": samples.DIGEST}
    run = samples.alignment(evaluation=among)
    known.datasets, datasets = {}, known.datasets
    early = ask(run, known)
    known.datasets = datasets
    for decision in (early, ask(run, known)):
        assert decision.reason is Refusal.FILE_IS_PRIVATE
        assert "the private data of another PrivacyBudget; " in decision.message
        assert "secret" not in decision.message
    mine = ask(samples.alignment(evaluation={**among, "prompts": f"{place}a.jsonl"}), known)
    assert f'the private data of PrivacyBudget "{own.name}"; ' in mine.message


def test_private_records_are_no_people_s_answers() -> None:
    known = cluster()
    private = next(iter(known.budgets.values())).spec.dataset.uri

    def answered(uri: str | None) -> Json:
        answers = {"answers": {"uri": uri, "digest": samples.DIGEST}} if uri else {}
        return samples.changed(samples.dataset(), "spec.annotation", {"human": answers})

    among = answered(f"{private}part-0000.jsonl")
    for asked in (ask(among, known), ask(among, known, "UPDATE", answered(None))):
        assert asked.reason is Refusal.FILE_IS_PRIVATE
        assert asked.message.startswith(f"spec.annotation.human.answers.uri: {private}part-0000")
    beside = answered("s3://outputs/answers.jsonl")
    assert ask(beside, known).allowed
    assert ask(beside, known, "UPDATE", answered(None)).allowed
    # A finalizer must go from it all the same.
    assert ask(among, known, "UPDATE", among).allowed


def test_weak_epsilons_are_told() -> None:
    generous = samples.changed(samples.budget(), "spec.limit.epsilon", "50")
    assert "promises little" in ask(generous, Known()).warnings[0]
    weak = samples.changed(samples.generator(), "spec.privacy.epsilon", "11")
    assert "promises little" in ask(weak, Known()).warnings[0]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "spec.limit.delta",
            "0.00000555555555555556",
            "spec.limit.delta: 0.00000555555555555556 must be below 1/records, here 1/180000",
        ),
        ("spec.limit.epsilon", "0.000000000001", "no gate can be opened"),
        ("spec.releases.uri", "s3://private/chat/out/", "must not overlap spec.dataset.uri"),
        ("spec.dataset.uri", "s3://private/a/../b/", "spec.dataset.uri: "),
        (
            "spec.allowedNamespaces.names",
            ["custody"],
            "spec.allowedNamespaces.names: custody is the custodian's namespace",
        ),
        (
            "spec.plan",
            {"trainings": [{"epsilon": "3", "batchSize": 200_000, "steps": 10}]},
            "spec.plan: no gate can be opened: batch",
        ),
    ],
)
def test_budgets_are_denied_by_field(path: str, value: Any, message: str) -> None:
    decision = ask(samples.changed(samples.budget(), path, value), Known())
    assert not decision.allowed
    assert message in decision.message


def half_spent() -> samples.Json:
    """A budget whose status says that more than half of it was given out."""
    shares = {"committed": "0.3", "reserved": "0.3", "left": "0.4"}
    spent = samples.budget()
    spent["metadata"]["generation"] = 1
    return spent | {"status": {"observedGeneration": 1, "gateOrder": 4, "shares": shares}}


def test_a_limit_does_not_go_below_what_was_given_out() -> None:
    old = half_spent()
    for epsilon, allowed in (("7", True), ("5.5", False)):
        decision = ask(samples.changed(old, "spec.limit.epsilon", epsilon), Known(), "UPDATE", old)
        assert decision.allowed == allowed, decision.message
    assert decision.message.startswith(
        "spec.limit.epsilon: 5.5 is less than was given out already: 0.6 of the gate at 8;"
    )


def test_a_limit_only_goes_down_in_exact_decimals() -> None:
    old = samples.budget()
    lower = samples.changed(old, "spec.limit.epsilon", "7.999999999999")
    assert ask(lower, Known(), "UPDATE", old).allowed
    higher = samples.changed(old, "spec.limit.epsilon", "8.000000000001")
    message = ask(higher, Known(), "UPDATE", old).message
    assert message == "spec.limit.epsilon: 8.000000000001 is above 8; it may only be lowered"


def test_a_budget_is_deleted_only_with_the_custodians_word() -> None:
    decision = ask(samples.budget(), Known(), "DELETE")
    assert not decision.allowed
    assert (
        "kubectl annotate privacybudget chat palimpsest.dev/confirm-delete=true" in decision.message
    )
    path = "metadata.annotations"
    for word, allowed in (("true", True), ("false", False), ("", False)):
        confirmed = samples.changed(samples.budget(), path, {"palimpsest.dev/confirm-delete": word})
        assert ask(confirmed, Known(), "DELETE").allowed is allowed


def test_a_spec_that_the_schema_let_through_is_still_denied_by_field() -> None:
    manifest = samples.changed(samples.generator(), "spec.training.steps", "many")
    assert ask(manifest, cluster()).message.startswith("spec.training.steps: ")


def test_a_batch_whose_noise_drowns_the_signal_is_warned_of_with_one_that_does_not() -> None:
    training = {"expectedBatchSize": 2, "steps": 4, "restarts": 0}
    decision = ask(samples.generator(training=training), cluster())
    assert decision.allowed
    (warning,) = decision.warnings
    assert warning.startswith("spec.training.expectedBatchSize: at 2 the noise drowns the signal")
    better = int(warning.split("about ")[1].split(" ")[0])
    again = samples.generator(training={**training, "expectedBatchSize": better})
    assert ask(again, cluster()) == Decision(True)


def test_a_placement_beyond_the_custodians_lists_is_denied_on_creation_and_later() -> None:
    far = samples.generator(compute={"nodeSelector": {"zone": "far"}})
    for operation, old in (("CREATE", None), ("UPDATE", samples.generator())):
        decision = ask(far, cluster(), operation, old)
        assert not decision.allowed
        assert decision.message.startswith("spec.compute.nodeSelector: zone=far is not among")
    listed = {"nodeLabels": [{"key": "zone", "values": ["far"]}]}
    kind = samples.budget(custodian={"namespace": "custody", "compute": listed})
    assert ask(far, cluster(kind)).allowed


def test_a_data_sets_histogram_is_held_to_the_custodians_lists_and_its_other_stages_are_not() -> (
    None
):
    placed = {"nodeSelector": {"zone": "far"}}
    assert ask(samples.dataset(compute={"default": placed}), cluster()).allowed
    message = ask(samples.dataset(compute={"histogram": placed}), cluster()).message
    assert message.startswith("spec.compute.histogram.nodeSelector: ")
    capped = samples.budget(
        custodian={"namespace": "custody", "compute": {"maxResources": {"memory": "512Mi"}}}
    )
    message = ask(samples.dataset(), cluster(capped)).message
    assert message.startswith("spec.compute.default.resources.requests: 1Gi of memory is above")


def test_a_namespace_is_allowed_by_its_labels() -> None:
    manifest = samples.budget(allowedNamespaces={"selector": {"matchLabels": {"team": "nlp"}}})
    known = cluster(manifest)
    known.namespaces["research"] = {"team": "hr"}
    assert "does not allow namespace research" in ask(samples.generator(), known).message
    known.namespaces["research"] = {"team": "nlp"}
    assert ask(samples.generator(), known).allowed


def test_an_audit_that_cannot_refute_the_claim_is_denied_with_canaries_that_could() -> None:
    weak = samples.generator(audit={"canaries": 50})
    decision = ask(weak, cluster())
    assert not decision.allowed
    assert decision.message.startswith(
        "spec.audit.canaries: 50 canaries cannot refute epsilon 4: the largest bound that they "
        "could prove is 2.18; take "
    )
    assert decision.message.endswith(
        "or set spec.audit.required to false to train without a test of the claim"
    )
    enough = int(decision.message.split("take ")[1].split(" ")[0])
    assert ask(samples.generator(audit={"canaries": enough}), cluster()) == Decision(True)
    assert not ask(samples.generator(audit={"canaries": enough - 1}), cluster()).allowed


def test_an_audit_that_is_not_required_is_admitted_with_a_warning() -> None:
    decision = ask(samples.generator(audit={"canaries": 50, "required": False}), cluster())
    assert decision.allowed
    (warning,) = decision.warnings
    assert warning.startswith("spec.audit.canaries: 50 canaries cannot refute epsilon 4")


def test_each_denial_has_its_reason_and_each_reason_its_denial() -> None:
    change, made, old = samples.changed, samples.generator, samples.budget()
    spent = half_spent()
    private = next(iter(cluster().budgets.values())).spec.dataset.uri
    among = {"prompts": f"{private}x.jsonl", "digest": samples.DIGEST}
    denials = {
        Refusal.SPEC_INVALID: ask(change(made(), "spec.training.steps", "many"), cluster()),
        Refusal.NOT_CONFIRMED: ask(old, Known(), "DELETE"),
        Refusal.LIMIT_INVALID: ask(change(old, "spec.limit.delta", "0.1"), Known()),
        Refusal.LIMIT_RAISED: ask(change(old, "spec.limit.epsilon", "9"), Known(), "UPDATE", old),
        Refusal.LIMIT_BELOW_SPENT: ask(
            change(spent, "spec.limit.epsilon", "5.5"), Known(), "UPDATE", spent
        ),
        Refusal.PLACES_OVERLAP: ask(change(old, "spec.releases.uri", f"{private}o/"), Known()),
        Refusal.NAMESPACE_NOT_ALLOWED: ask(change(made(), "metadata.namespace", "x"), cluster()),
        Refusal.MODEL_NOT_ALLOWED: ask(
            change(made(), "spec.baseModel.uri", "s3://models/other/"), cluster()
        ),
        Refusal.PLACEMENT_NOT_ALLOWED: ask(
            made(compute={"nodeSelector": {"zone": "far"}}), cluster()
        ),
        Refusal.CANNOT_BE_PRICED: ask(change(made(), "spec.privacy.epsilon", "0.29"), cluster()),
        Refusal.BUDGET_EXCEEDED: ask(made(), cluster(left="0.1000")),
        Refusal.AUDIT_POWERLESS: ask(made(audit={"canaries": 50}), cluster()),
        Refusal.FILE_IS_PRIVATE: ask(samples.alignment(evaluation=among), cluster()),
    }
    assert {reason: denial.reason for reason, denial in denials.items()} == {
        reason: reason for reason in Refusal
    }
