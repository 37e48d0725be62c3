"""A model that does not fit is told before its weights are fetched, in numbers outside custody."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from palimpsest.api.shortage import Shortage
from palimpsest.api.task import (
    AnnotateParameters,
    AnyModelInput,
    ClaimModelInput,
    ClusterParameters,
    HubModelInput,
    Input,
    Parameters,
    Task,
)
from palimpsest_stage import fit
from palimpsest_stage.errors import ModelTooLarge
from palimpsest_stage.fit import Counted, Use
from palimpsest_stage.runtime import Context
from transformers import BertConfig, LlamaConfig
from unit.stage.aligned import TEMPLATE, reward_model, rlhf, sft
from unit.stage.ground import Ended, Ground
from unit.stage.hub import Hub
from unit.stage.test_train import lines
from unit.stage.tiny import tiny_classifier, tiny_encoder, tiny_model
from unit.stage.training import parameters, reserved

GIB = 2**30
# Of 13.7 trillion parameters: no machine has 25 TiB.
GIANT = {
    "hidden_size": 65536,
    "intermediate_size": 262144,
    "num_hidden_layers": 200,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "head_dim": 1024,
}
NAME, REVISION = "acme/giant", "d" * 40
DIGEST = "sha256:" + "1" * 64
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def giant(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says it is one, and whose files are small."""
    folder = shutil.copytree(model_folder, tmp_path_factory.mktemp("giant") / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | GIANT))
    return folder


def annotation(ground: Ground, model: AnyModelInput) -> Task:
    rows = [{"id": f"{ground.folder}/{text}", "instruction": text} for text in ("a", "b")]
    asked = AnnotateParameters(
        system_prompt="", chat_template=TEMPLATE, max_new_tokens=2, batch_size=2
    )
    inputs: dict[str, Input] = {
        "model": model,
        "selected": ground.push_rows("selected.jsonl", rows),
    }
    return ground.task(asked, inputs, "outputs")


def shortage(ended: Ended) -> Shortage:
    """What the termination message says: the program's last line."""
    assert ended.outcome == "OutOfResources", ended.said
    return Shortage.model_validate(json.loads(ended.said.splitlines()[-1])["shortage"])


def fetched(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.suffix == ".safetensors"]


@pytest.mark.parametrize("source", ["store", "hub"])
def test_the_weights_of_a_model_that_does_not_fit_are_never_asked_for(
    ground: Ground, giant: Path, tmp_path: Path, source: str
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    with Hub(NAME, REVISION, giant).serving() as hub:
        model: AnyModelInput = HubModelInput(repository=NAME, revision=REVISION, digest=DIGEST)
        if source == "store":
            model = ground.push_model(giant, "s3://models/giant/")
            # Who asks for them finds another outcome.
            ground.store("root").delete(f"{model.uri}{WEIGHTS}")
        environment = {"HF_ENDPOINT": hub.endpoint, "PALIMPSEST_CACHE": str(cache)}
        ended = ground.start(annotation(ground, model), more=environment).wait()
    found = shortage(ended)
    assert found.what in ("Memory", "GPUMemory")
    assert (found.model, found.parameters) == ("model", found.needs // 2)
    assert found.needs > 20 * 2**40 > found.has > 0
    # The pod's log says it in full.
    assert found.told() in ended.said
    assert fetched(tmp_path) == []
    assert not [name for name in hub.asked if name.endswith(WEIGHTS)]
    assert bool(hub.asked) == (source == "hub")


def test_neither_one_on_a_claim_nor_one_in_the_cache_is_loaded(
    ground: Ground, giant: Path, tmp_path: Path
) -> None:
    shutil.copytree(giant, tmp_path / "claims" / "shared" / "giant")
    claimed = annotation(ground, ClaimModelInput(claim="shared", path="giant/", digest=DIGEST))
    claims = {"PALIMPSEST_CLAIMS": str(tmp_path / "claims")}
    with pytest.raises(ModelTooLarge, match="needs at least"):
        Context(claimed, ground.environment(claimed) | claims).model("model")

    stored = ground.push_model(giant, "s3://models/giant/")
    place = tmp_path / "cache" / stored.digest.removeprefix("sha256:")
    shutil.copytree(giant, place)
    listing = ground.store("root").get(f"{stored.uri}palimpsest-model.json")
    (place / "palimpsest-model.json").write_bytes(listing)
    task = annotation(ground, stored)
    cache = {"PALIMPSEST_CACHE": str(tmp_path / "cache")}
    with pytest.raises(ModelTooLarge, match="needs at least"):
        Context(task, ground.environment(task) | cache).model("model")


def test_scratch_that_is_too_small_is_told_in_numbers(ground: Ground, model_folder: Path) -> None:
    model = ground.push_model(model_folder, "s3://models/tiny-sources/")
    ended = ground.start(annotation(ground, model), room=10_000).wait()
    found = shortage(ended)
    assert (found.what, found.has) == ("Scratch", 10_000)
    assert found.needs == sum(path.stat().st_size for path in model_folder.iterdir())
    assert fetched(ground.folder) == []


def test_in_custody_nothing_begins_and_nothing_but_the_word_is_said(
    ground: Ground, giant: Path
) -> None:
    task = reserved(ground, giant, ground.push_records(lines()))
    ended = ground.run(task)
    assert ended.outcome == "OutOfResources"
    (line,) = ended.said.splitlines()
    assert set(json.loads(line)) == {"outcome", "message"}
    assert [entry["kind"] for entry in ground.entries()] == ["open", "reserve"]
    # The custodian reads the rest.
    (report,) = ground.reports()
    assert "The base model of 13,7" in report["error"]
    assert "the pod has" in report["error"]


def test_parameters_are_those_of_the_loaded_model(model_folder: Path, tmp_path: Path) -> None:
    loaded = sum(each.numel() for each in tiny_model().parameters())
    assert fit.count(model_folder, "causal") == Counted(loaded, quantized=False)
    # Tied weights are there once.
    config = LlamaConfig.from_pretrained(model_folder)
    config.tie_word_embeddings = False
    config.save_pretrained(tmp_path / "untied")
    untied = fit.count(tmp_path / "untied", "causal")
    assert untied == Counted(loaded + config.vocab_size * config.hidden_size, quantized=False)
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    config.save_pretrained(tmp_path / "packed")
    packed = fit.count(tmp_path / "packed", "causal")
    assert packed is not None
    assert packed.quantized
    assert fit.count(tiny_encoder(tmp_path / "encoder"), "encoder") is not None
    assert fit.count(tiny_classifier(tmp_path / "reward"), "classifier") is not None


def test_of_what_cannot_be_read_nothing_is_said(tmp_path: Path) -> None:
    assert fit.count(tmp_path, "causal") is None
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    assert fit.count(tmp_path, "causal") is None
    BertConfig().save_pretrained(tmp_path / "encoder")
    assert fit.count(tmp_path / "encoder", "classifier") is not None


@pytest.mark.parametrize(
    ("asked", "name", "held"),
    [
        (sft(), "base", Use("causal", 2)),
        (sft(lora_rank=None), "base", Use("causal", 16)),
        (rlhf(), "base", Use("causal", 2)),
        (rlhf(), "reward", Use("classifier", 4)),
        (reward_model(), "base", Use("classifier", 4)),
        (sft(lora_rank=None), "judge", Use("classifier", 4)),
        (parameters(precision="bfloat16"), "base", Use("causal", 2)),
        (parameters(precision="float32"), "base", Use("causal", 4)),
        (ClusterParameters(clusters=2), "embedder", Use("encoder", 4)),
    ],
)
def test_a_stage_holds_a_model_as_its_work_wants_it(
    asked: Parameters, name: str, held: Use
) -> None:
    assert fit.use(asked, name) == held


def test_a_packed_model_is_taken_for_no_more_than_its_files() -> None:
    assert fit.needed(1000, 2) == 2000
    assert fit.needed(1000, 2, quantized=500) == 500
    assert fit.needed(1000, 2, quantized=5000) == 2000


def test_what_fits_to_the_byte_is_let_through(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = fit.count(model_folder, "causal")
    assert counted is not None
    has = 16 * counted.parameters
    monkeypatch.setattr(fit, "available", lambda: ("Memory", has))
    fit.check(sft(lora_rank=None), "base", model_folder, 0)
    has -= 1
    with pytest.raises(ModelTooLarge) as refused:
        fit.check(sft(lora_rank=None), "base", model_folder, 0)
    assert refused.value.shortage.needs == has + 1
    # The same model with adapters does fit.
    fit.check(sft(), "base", model_folder, 0)
    monkeypatch.setattr(fit, "available", lambda: ("Memory", None))
    fit.check(sft(lora_rank=None), "base", model_folder, 0)


@pytest.mark.parametrize(
    ("files", "bytes_there"),
    [
        ({"memory.max": str(4 * GIB)}, 4 * GIB),
        ({"memory.max": "max"}, 24 * GIB),
        ({"memory/memory.limit_in_bytes": str(2 * GIB)}, 2 * GIB),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 24 * GIB),
        ({}, 24 * GIB),
    ],
)
def test_a_container_s_memory_is_its_limit_or_the_machine_s(
    tmp_path: Path, files: dict[str, str], bytes_there: int
) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    machine = tmp_path / "meminfo"
    lines = [f"MemTotal:       {24 * GIB // 1024} kB", "MemFree:   1 kB", "SwapTotal:      0 kB"]
    machine.write_text("\n".join(lines))
    assert fit.memory(tmp_path / "cgroup", machine) == bytes_there
    machine.write_text("\n".join([*lines[:2], f"SwapTotal: {GIB // 1024} kB"]))
    assert fit.memory(tmp_path / "cgroup", machine) == bytes_there + GIB


def test_the_machine_this_runs_on_has_memory() -> None:
    found = fit.memory(fit.CGROUPS, fit.MEMORY)
    assert found is not None
    assert found > GIB


def test_where_nothing_is_known_nothing_is_refused(tmp_path: Path) -> None:
    assert fit.memory(tmp_path, tmp_path / "meminfo") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"what": "Memory", "model": "model", "parameters": 7241732096, "needs": 14483464192},
            "The model of 7,241,732,096 parameters needs at least 13.49 GiB of memory, the pod has "
            "4.00 GiB: raise resources.limits.memory of spec.compute to 14Gi or more, on a node "
            "that has as much.",
        ),
        (
            {"what": "GPUMemory", "model": "reward", "parameters": 10**10, "needs": 4 * 10**10},
            "The reward model of 10,000,000,000 parameters needs at least 37.25 GiB of memory of a "
            "GPU, the pod has 4.00 GiB: give spec.compute a GPU of 38 GiB or more.",
        ),
        (
            {"what": "Scratch", "needs": 5 * GIB},
            "The model needs at least 5.00 GiB of scratch space, the pod has 4.00 GiB: raise "
            "scratch of spec.compute to 5Gi or more.",
        ),
    ],
)
def test_a_shortage_reads_as_a_remedy(given: dict[str, Any], said: str) -> None:
    assert Shortage(**given, has=4 * GIB).told() == said
