"""The sft stage as a program: what it publishes, kills, checkpoints that somebody touched."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cluster.fixtures import ObjectStore
from palimpsest.api.task import ArtifactInput, ModelInput, Task
from palimpsest_stage.alignment.checkpoints import Checkpoints
from palimpsest_stage.parts import CHECKPOINTS
from unit.stage.aligned import ROWS, alignment, fetched, sft
from unit.stage.ground import Ground

# 96 steps.
LONG = {"epochs": 3, "batch_size": 2}
WEIGHTS = "model.safetensors"


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def elsewhere(task: Task, place: str) -> Task:
    """The same work, published at another place."""
    output = task.output.model_copy(update={"uri": f"{task.output.uri}{place}/"})
    return task.model_copy(update={"output": output})


def kept(ground: Ground, task: Task) -> list[str]:
    return sorted(ground.store("root").list(f"{task.output.uri}{CHECKPOINTS}"))


@pytest.mark.parametrize(
    "lora_rank",
    [pytest.param(4, id="LoRA"), pytest.param(None, id="Full", marks=pytest.mark.full)],
)
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    ground: Ground, model_folder: Path, lora_rank: int | None
) -> None:
    task = alignment(ground, model_folder, sft(**LONG, lora_rank=lora_rank))
    undisturbed = elsewhere(task, "undisturbed")
    beside = ground.start(undisturbed)
    ground.killed_after(task, "/checkpoint.json")
    assert kept(ground, task)
    assert beside.wait().outcome == "Completed"

    second = ground.run(task, attempt=2)
    assert second.outcome == "Completed", second.said
    assert "going on from step" in second.said
    assert ground.read(task.output, WEIGHTS) == ground.read(undisturbed.output, WEIGHTS)
    told = [json.loads(ground.read(one.output, "training.json")) for one in (task, undisturbed)]
    assert told[0] == told[1]
    assert len(told[0]["loss"]) == 96
    assert kept(ground, task) == []


LOAD = """
import sys, json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
text = tokenizer.apply_chat_template(
    [{"role": "user", "content": "is 3 more than 2"}], tokenize=False, add_generation_prompt=True)
ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
with torch.no_grad():
    print(json.dumps(model(**ids).logits[0, -1].float().topk(3).indices.tolist()))
"""


def likeliest(folder: Path) -> list[int]:
    """What plain transformers make of a published folder, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, check=True
    )
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_merged_model_loads_as_any_and_its_card_says_what_it_is(
    ground: Ground, model_folder: Path, tmp_path: Path
) -> None:
    task = alignment(ground, model_folder, sft(epochs=4))
    task = task.model_copy(update={"inputs": task.inputs | {"dataset": lineage(ground)}})
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    folder = fetched(ground, task, tmp_path / "published")
    assert likeliest(folder)[0] == ord("y") - 33 + 3

    assert not (folder / "base.json").exists()

    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    dataset = task.inputs["dataset"]
    assert isinstance(dataset, ArtifactInput)
    assert yaml.safe_load(front) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "s3://models/tiny/",
        "datasets": [dataset.uri],
        "tags": ["synthetic-data", "differential-privacy", "sft"],
    }
    assert "(3, 1e-5)-DP" in text
    assert "s3://releases/team/gen/train-1/receipt.json" in text
    assert "s3://releases/team/data/histogram-1/receipt.json" in text
    assert "LoRA of rank 4 on every linear layer, merged" in text
    assert "Loss over 64 steps" in text


def lineage(ground: Ground) -> ArtifactInput:
    """A data set whose manifests lead to a generator's release and a histogram's."""

    def released(place: str) -> ArtifactInput:
        uri = f"s3://releases/team/{place}/manifest.json"
        return ArtifactInput(store="releases", uri=uri, digest="sha256:" + "0" * 64)

    pool = ground.push_artifact({"pool": b""}, inputs={"generator": released("gen/train-1")})
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    return ground.push_artifact(
        {"data.jsonl": lines}, inputs={"pool-0": pool, "histogram": released("data/histogram-1")}
    )


def test_adapters_alone_name_the_model_they_belong_to(
    ground: Ground, model_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel  # noqa: PLC0415 - 8 s
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - 8 s

    task = alignment(ground, model_folder, sft(merge=False))
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    folder = fetched(ground, task, tmp_path / "alone")
    assert not (folder / WEIGHTS).exists()
    base = task.inputs["base"]
    assert isinstance(base, ModelInput)
    told = json.loads((folder / "base.json").read_text())
    assert told == {"uri": "s3://models/tiny/", "digest": base.digest}
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "s3://models/tiny/"
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    plain = model(torch.tensor([[5, 6, 7]])).logits
    adapted = PeftModel.from_pretrained(model, folder)
    assert not torch.allclose(adapted(torch.tensor([[5, 6, 7]])).logits, plain, atol=1e-2)


class Bomb:
    """What a forged pickle would run."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("touched", ["forged", "pickled", "damaged", "replaced", "named"])
def test_a_checkpoint_that_somebody_touched_is_none(
    ground: Ground, tmp_path: Path, touched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store, prefix = ground.store("root"), f"s3://outputs/{tmp_path.name}/"
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    torch.save({"step": torch.ones(2)}, folder / "optimizer.pt")
    (folder / "training_args.bin").write_bytes(pickle.dumps(Bomb()))
    checkpoints = Checkpoints(store, prefix)
    checkpoints.save(folder, 3, "1-pod")
    assert checkpoints.latest(tmp_path / "good") == tmp_path / "good" / "checkpoint-3"
    assert not (tmp_path / "good" / "checkpoint-3" / "training_args.bin").exists()

    if touched == "damaged":
        store.put(f"{prefix}00000003-1-pod/optimizer.pt", b"changed")
    elif touched == "replaced":
        # As sound as the one before, but for what its listing says.
        torch.save({"step": torch.zeros(2)}, folder / "optimizer.pt")
        store.put(f"{prefix}00000003-1-pod/optimizer.pt", (folder / "optimizer.pt").read_bytes())
    else:
        name = "training_args.bin" if touched == "named" else "optimizer.pt"
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        if touched == "forged":
            torch.save({"step": Bomb()}, folder / name)
        checkpoints.save(folder, 4, "2-pod")
        if touched == "named":
            place = f"{prefix}00000004-2-pod/checkpoint.json"
            listing = json.loads(store.get(place))
            listing["files"]["training_args.bin"] = "sha256:" + "0" * 64
            store.put(place, json.dumps(listing).encode())
    assert checkpoints.latest(tmp_path / "bad") is None
    assert not (tmp_path / "exploded").exists()


def test_packed_rows_are_trained_on_and_a_missing_template_is_named(
    ground: Ground, model_folder: Path
) -> None:
    other = ground.start(alignment(ground, model_folder, sft(chat_template=None)))
    task = alignment(ground, model_folder, sft(packing=True, max_length=128, epochs=8))
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    losses = [one["loss"] for one in json.loads(ground.read(task.output, "training.json"))["loss"]]
    # 64 pairs of some 30 tokens are some 20 rows.
    assert len(losses) < 8 * 64 / 4 / 2
    assert losses[-1] < losses[0] / 2

    refused = other.wait()
    assert refused.outcome == "ModelUnsuitable"
    assert "baseModel.chatTemplate" in refused.said
