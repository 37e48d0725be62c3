"""The student's loss: the mean over the answers' tokens, whatever computes it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from palimpsest_stage.alignment.packing import IGNORED
from palimpsest_stage.sft import Trainer, learnt
from trl import SFTConfig, SFTTrainer
from unit.stage.tiny import tiny_model, tiny_tokenizer

PAIRS = [
    {"prompt": "is the sea salt", "completion": " yes"},
    {"prompt": "can a fox swim in a river", "completion": " yes, well"},
    {"prompt": "is a bat a bird", "completion": " no, it is a mammal"},
]


def _trainer(folder: Path) -> Any:
    return Trainer(
        model=tiny_model(),
        processing_class=tiny_tokenizer(),
        train_dataset=Dataset.from_list(PAIRS),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=len(PAIRS),
            completion_only_loss=True,
            bf16=False,
            use_cpu=True,
            report_to=[],
        ),
    )


@pytest.mark.parametrize("tokens", [None, 11])
def test_loss_and_gradients_are_those_of_the_library(tmp_path: Path, tokens: int | None) -> None:
    trainer = _trainer(tmp_path)
    model = trainer.model
    batch = next(iter(trainer.get_train_dataloader()))
    # Prompts and padding must be there, or masking them would not be tested.
    assert (batch["labels"] == -100).any()
    assert (batch["attention_mask"] == 0).any()

    found = []
    for compute in (Trainer.compute_loss, SFTTrainer.compute_loss):
        model.zero_grad()
        loss = compute(trainer, model, dict(batch), num_items_in_batch=tokens)
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((loss.detach(), gradients))

    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-4, atol=1e-6)


TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_cut_answer_is_learnt_without_an_end_and_any_other_as_the_library_does(
    tmp_path: Path,
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TURNS
    rows = [
        {"instruction": "is the sea salt", "answer": "yes, it", "finish": finish}
        for finish in ("stop", "length")
    ]
    whole, cut = (learnt(tokenizer, row) for row in rows)
    said = tokenizer("yes, it", add_special_tokens=False)["input_ids"]
    assert [label for label in cut["labels"] if label != IGNORED] == said
    assert cut["input_ids"] == whole["input_ids"][: len(cut["input_ids"])]
    after = tokenizer("</s>\n", add_special_tokens=False)["input_ids"]
    assert after[0] == 1
    assert [label for label in whole["labels"] if label != IGNORED] == [*said, *after]

    one = {
        "prompt": [{"role": "user", "content": "is the sea salt"}],
        "completion": [{"role": "assistant", "content": "yes, it"}],
    }
    args = {"output_dir": str(tmp_path), "bf16": False, "use_cpu": True, "report_to": []}
    theirs = SFTTrainer(
        model=tiny_model(),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([one]),
        args=SFTConfig(completion_only_loss=True, **args),
    ).train_dataset[0]
    assert whole == {name: theirs[name] for name in whole}
