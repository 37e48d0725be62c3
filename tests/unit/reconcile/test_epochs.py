"""Steps or epochs: the price, the task and the warnings speak of the same steps."""

from typing import Any

import pytest
import samples
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.generator import DEFAULT_STEPS, PrivateGeneratorSpec, Training
from palimpsest.api.task import TrainParameters
from palimpsest.privacy.pricing import price_training
from palimpsest.reconcile import tasks
from palimpsest.reconcile.observed import Meta


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ({}, DEFAULT_STEPS),
        ({"steps": 7}, 7),
        ({"epochs": "1", "expectedBatchSize": 100}, 150),
        ({"epochs": "3"}, 176),  # 175.8
        ({"epochs": "0.5"}, 30),  # 29.3
        ({"epochs": "0.000000000001"}, 1),
    ],
)
def test_steps_follow_from_what_is_declared(training: dict[str, Any], steps: int) -> None:
    assert Training.model_validate(training).steps_over(15_000) == steps


def test_what_is_paid_for_is_what_runs() -> None:
    training = {"expectedBatchSize": 4096, "epochs": "10", "checkpointInterval": 8, "restarts": 2}
    spec = PrivateGeneratorSpec.model_validate(samples.generator(training=training)["spec"])
    budget = PrivacyBudgetSpec.model_validate(samples.budget()["spec"])
    priced = price_training(spec, budget)
    meta = Meta("PrivateGenerator", "research", "questions", "uid", 1, deleting=False)
    parameters = tasks.train(meta, spec, budget, priced.noiseMultiplier).task.parameters
    assert isinstance(parameters, TrainParameters)
    assert parameters.steps == 440  # 10 * 180,000 / 4096 = 439.5
    assert priced.steps == parameters.steps + parameters.restarts * parameters.block_steps == 456
