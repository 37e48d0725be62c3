"""What a model learns of a pair: both answers in tokens, and no end of one that was cut."""

from pathlib import Path

from datasets import Dataset
from palimpsest_stage.alignment.preferences import Pair, rank
from palimpsest_stage.alignment.rewards import BuiltInReward
from palimpsest_stage.dpo import Trainer, learnt
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer
from unit.stage.aligned import TEMPLATE
from unit.stage.tiny import tiny_model, tiny_tokenizer


def test_an_answer_is_cut_unless_it_ended_once() -> None:
    row = {
        "instruction": "Is the sea salt?",
        "answers": ["yes it tastes so", "it is", "it is"],
        "finishes": ["length", "length", "stop"],
    }
    (pair,) = rank([row], BuiltInReward("Informative")).pairs
    assert (pair.chosen, pair.chosen_cut) == ("yes it tastes so", True)
    assert (pair.rejected, pair.rejected_cut) == ("it is", False)
    # Answers of a data set that says nothing of their ends.
    (pair,) = rank([row | {"finishes": None}], BuiltInReward("Informative")).pairs
    assert (pair.chosen_cut, pair.rejected_cut) == (False, False)


def test_tokens_are_the_library_s_but_for_an_end_that_was_none(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    whole = learnt(tokenizer, Pair("is it", "yes", "no"))
    cut = learnt(tokenizer, Pair("is it", "yes", "no", chosen_cut=True))
    assert cut == whole | {"chosen_ids": whole["chosen_ids"][:-1]}
    assert whole["chosen_ids"][-1] == tokenizer.eos_token_id
    cut = learnt(tokenizer, Pair("is it", "yes", "no", rejected_cut=True))
    assert cut == whole | {"rejected_ids": whole["rejected_ids"][:-1]}

    said = [{"role": "user", "content": "is it"}]
    answers = {
        name: [{"role": "assistant", "content": text}]
        for name, text in (("chosen", "yes"), ("rejected", "no"))
    }
    for trainer, row in ((DPOTrainer, {"prompt": said} | answers), (Trainer, whole)):
        made = trainer(
            model=tiny_model(),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([row]),
            args=DPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to=[]),
            peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        found = made.train_dataset[0]
        assert {name: found[name] for name in whole} == whole
