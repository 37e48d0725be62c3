"""A summary as the demo writes it, small enough to read."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def summary() -> dict[str, Any]:
    def stage(resource: str, name: str, seconds: float) -> dict[str, Any]:
        return {"resource": resource, "name": name, "state": "Succeeded", "seconds": seconds}

    return {
        "phases": {"cluster": 61.0, "install": 20.0, "pipeline": 640.0, "check": 70.0},
        "pipelineSeconds": 630.0,
        "stages": [
            stage("PrivateGenerator questions", "train", 290.0),
            stage("SyntheticDataset questions", "sample", 120.0),
            stage("SyntheticDataset questions", "cluster", 20.0),
            stage("SyntheticDataset questions", "histogram", 60.0),
            stage("SyntheticDataset questions", "select", 5.0),
            stage("SyntheticDataset questions", "annotate", 40.0),
            stage("SyntheticDataset questions", "card", 6.0),
            stage("AlignmentRun assistant", "sft", 80.0),
        ],
        "rlhf": {
            "steps": [
                {"step": n, "reward": 0.1 * n, "kl": 0.01 * n, "completionTokens": 30.0}
                for n in (1, 2)
            ],
            "judge": {"winRate": 0.625, "low": 0.5, "high": 0.75, "confidence": 0.95},
        },
        "budget": {
            "name": "search-questions",
            "epsilon": "3.2",
            "delta": "1e-5",
            "records": 15000,
            "guarantee": "Everything ever released is (3.2, 1e-5)-differentially private.",
        },
        "journal": {
            "entries": 12,
            "order": 9,
            "shareCommitted": 0.71,
            "shareReserved": 0.0,
            "epsilonSpentRenyi": 2.61,
            "epsilonSpentPld": 2.2,
            "charges": [
                {
                    "stage": "train",
                    "subject": "PrivateGenerator assistants/questions",
                    "mechanism": "Poisson-subsampled Gaussian, noise 0.78",
                    "state": "committed",
                    "steps": 24,
                    "share": 0.67,
                },
                {
                    "stage": "histogram",
                    "subject": "SyntheticDataset assistants/questions",
                    "mechanism": "discrete Gaussian, noise 10",
                    "state": "committed",
                    "steps": 1,
                    "share": 0.04,
                },
            ],
        },
        "denial": {"text": "epsilon 3 does not fit: at most 1.74 is left", "jobs": 0, "pods": 0},
        "custody": {"privateNamespaces": ["support-custody"]},
        "receipts": [{"stage": "train"}, {"stage": "histogram"}],
        "artifacts": {"count": 9, "files": 17, "wrong": []},
        "quality": {
            "yesNo": {"heldOut": 0.98, "base": 0.11, "pool": 0.81, "selected": 0.9},
            "nll": {"base": 5.53, "generator": 3.8, "questions": 320},
            "totalVariation": {"pool": 0.24, "selected": 0.07, "floor": 0.06},
            "clusters": {
                "heldOut": [40, 30, 20, 10, 5, 60, 33],
                "pool": [10, 90, 20, 40, 5, 20, 13],
                "selected": [41, 29, 18, 12, 6, 55, 30],
            },
            "samples": {
                "base": ["How to tie <a> tie", "What is love"],
                "pool": ["is the moon a planet", "can dogs eat figs"],
                "selected": ["is there a season 4 of the crown", "do you need a visa for norway"],
            },
            "answers": [
                {
                    "instruction": "is a tomato a fruit",
                    "before": "Tomatoes are delicious & red.",
                    "after": "Yes, botanically a tomato is a fruit.",
                }
            ],
            "loss": [2.4, 2.1, 1.9, 1.8, 1.7, 1.68],
        },
    }
