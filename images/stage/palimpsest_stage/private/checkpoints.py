"""Checkpoints of a private training: in the custodian's bucket, for a later attempt to go on."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from palimpsest.storage import NotFound, S3Store
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palimpsest_stage.audit.scores import Scores
from palimpsest_stage.dp.adam import Moments
from palimpsest_stage.inputs import file_digest

_STATE = "state.json"
_ADAPTER = "adapter.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_AUDIT = "audit.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Training after `steps` steps. The noise generator is no part of it."""

    steps: int
    weights: Tensor
    moments: Moments
    audit: Scores | None = None

    def on(self, device: torch.device) -> "Checkpoint":
        """The same with weights and moments on a device; an audit's scores are on the processor."""
        moments = self.moments
        return replace(
            self,
            weights=self.weights.to(device),
            moments=replace(
                moments, first=moments.first.to(device), second=moments.second.to(device)
            ),
        )


class Checkpoints:
    """All attempts' checkpoints of one charge, under `<prefix><attempt>/block-<n>/`."""

    def __init__(self, store: S3Store, prefix: str, scratch: Path) -> None:
        self._store, self._prefix, self._scratch = store, prefix, scratch

    def save(self, attempt: str, block: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; its state file, last, makes it whole."""
        place = f"{self._prefix}{attempt}/block-{block}/"
        moments = checkpoint.moments
        save_file({"weights": checkpoint.weights}, self._scratch / _ADAPTER)
        save_file({"first": moments.first, "second": moments.second}, self._scratch / _OPTIMIZER)
        names = [_ADAPTER, _OPTIMIZER]
        if checkpoint.audit:
            scores = checkpoint.audit
            tensors = {"included": scores.included, "evidence": scores.evidence}
            save_file(tensors, self._scratch / _AUDIT)
            names.append(_AUDIT)
        digests = {}
        for name in names:
            self._store.upload_file(self._scratch / name, place + name)
            digests[name] = file_digest(self._scratch / name)
        state = {"steps": checkpoint.steps, "optimizerSteps": moments.steps, "digests": digests}
        self._store.put(place + _STATE, json.dumps(state).encode())

    def latest(self) -> Checkpoint | None:
        """The whole checkpoint with the most steps, if there is any."""
        found = []
        for uri in self._store.list(self._prefix):
            if uri.endswith(f"/{_STATE}") and (state := _state(self._store.get(uri))):
                found.append((state["steps"], uri.removesuffix(_STATE), state))
        for steps, place, state in sorted(found, key=lambda one: (-one[0], one[1])):
            checkpoint = self._load(steps, place, state)
            if checkpoint is not None:
                return checkpoint
        return None

    def _load(self, steps: int, place: str, state: dict[str, Any]) -> Checkpoint | None:
        tensors: dict[str, Tensor] = {}
        for name, digest in state["digests"].items():
            path = self._scratch / name
            try:
                self._store.download_file(place + name, path)
                if file_digest(path) != digest:
                    return None
                tensors |= load_file(path)
            except (NotFound, SafetensorError):
                return None
        moments = Moments(tensors["first"], tensors["second"], state["optimizerSteps"])
        audited = _AUDIT in state["digests"]
        scores = Scores(tensors["included"], tensors["evidence"]) if audited else None
        return Checkpoint(steps, tensors["weights"], moments, scores)


def _state(data: bytes) -> dict[str, Any] | None:
    """A state file's content; None if it is damaged: then the checkpoint is as good as lost."""
    try:
        state = json.loads(data)
        names = (_ADAPTER, _OPTIMIZER, *({_AUDIT} & set(state["digests"])))
        return {
            "steps": int(state["steps"]),
            "optimizerSteps": int(state["optimizerSteps"]),
            "digests": {name: str(state["digests"][name]) for name in names},
        }
    except (KeyError, TypeError, ValueError):
        return None
