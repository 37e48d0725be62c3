"""The models as the checker runs them: own loading, own adapter arithmetic, own pooling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from demo.checker.bucket import Bucket, CheckError, sha256


def fetch_model(bucket: Bucket, uri: str, digest: str, target: Path) -> Path:
    """A model's folder, each file as its palimpsest-model.json states. Raises CheckError."""
    listing = bucket.get(f"{uri}palimpsest-model.json")
    if sha256(listing) != digest:
        raise CheckError(f"{uri}: palimpsest-model.json has another digest")
    for file in json.loads(listing)["files"]:
        bucket.download(uri + file["path"], file["digest"], target / file["path"])
    return target


def language_model(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer), float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging  # noqa: PLC0415 - 4 s

    logging.disable_progress_bar()

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def add_adapter(model: Any, adapter: bytes, config: bytes, scratch: Path) -> None:
    """W <- W + (alpha / r) B A for every pair in a PEFT adapter file. Raises CheckError."""
    settings = json.loads(config)
    scale = settings["lora_alpha"] / settings["r"]
    path = scratch / "adapter.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(adapter)
    tensors = load_file(path)
    weights = dict(model.named_parameters())
    pairs = [name for name in tensors if name.endswith(".lora_A.weight")]
    if not pairs:
        raise CheckError("the adapter file holds no LoRA pair")
    for name in pairs:
        target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        if target not in weights:
            raise CheckError(f"the adapter's {target} is not in the base model")
        down, up = tensors[name].float(), tensors[name.replace("lora_A", "lora_B")].float()
        weights[target].add_(scale * up @ down)


@torch.no_grad()
def mean_nll(model: Any, tokenizer: Any, prompt: str, texts: Sequence[str]) -> float:
    """Mean negative log-likelihood, nats a token, of texts (and their end) after the prompt."""
    start = tokenizer(prompt)["input_ids"]
    total, count = 0.0, 0
    rows = [
        tokenizer(f" {text}", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        for text in texts
    ]
    rows.sort(key=len)
    for first in range(0, len(rows), 32):
        batch = rows[first : first + 32]
        longest = max(map(len, batch))
        padded = [start + row + [0] * (longest - len(row)) for row in batch]
        ids = torch.tensor(padded, device=model.device)
        # Causal attention: what stands after a row's end does not reach its tokens.
        logits = model(input_ids=ids[:, :-1]).logits[:, len(start) - 1 :]
        targets = ids[:, len(start) :]
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), targets, reduction="none"
        )
        for row, loss in zip(batch, losses, strict=True):
            total += float(loss[: len(row)].sum())
            count += len(row)
    return total / count


@torch.no_grad()
def sample(model: Any, tokenizer: Any, prompt: str, count: int, length: int) -> list[str]:
    """Samples after the prompt at temperature 1, nucleus 0.95: the first line of each."""
    torch.manual_seed(20)
    ids = torch.tensor([tokenizer(prompt)["input_ids"]] * count)
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=0.95,
        max_new_tokens=length,
        pad_token_id=tokenizer.eos_token_id,
    )
    texts = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip().split("\n")[0] for text in texts]


@torch.no_grad()
def answer(model: Any, tokenizer: Any, questions: Sequence[str], length: int) -> list[str]:
    """Greedy answers in the model's own chat format, without a system prompt."""
    answers = []
    for question in questions:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=length,
            pad_token_id=tokenizer.eos_token_id,
        )
        answers.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return answers


@torch.no_grad()
def embed(folder: Path, texts: Sequence[str]) -> torch.Tensor:
    """Sentence embeddings (n, d): mean of token states, unit length."""
    from transformers import AutoModel, AutoTokenizer, logging  # noqa: PLC0415 - 4 s

    logging.disable_progress_bar()

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    parts = []
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for first in range(0, len(order), 128):
        batch = [texts[index] for index in order[first : first + 128]]
        inputs = tokenizer(
            batch, padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        parts.append((states * mask).sum(1) / mask.sum(1))
    vectors = torch.empty(len(texts), parts[0].shape[1])
    vectors[torch.tensor(order)] = torch.cat(parts)
    return torch.nn.functional.normalize(vectors, dim=1)


def nearest(vectors: torch.Tensor, partition: dict[str, torch.Tensor]) -> list[int]:
    """Counts of vectors by nearest centroid among principal components."""
    projected = (vectors - partition["mean"]) @ partition["components"].T
    centroids = partition["centroids"]
    closest = torch.cdist(projected, centroids).argmin(1)
    return [int(n) for n in torch.bincount(closest, minlength=centroids.shape[0])]
