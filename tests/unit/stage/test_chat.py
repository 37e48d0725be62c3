"""Chat templates and tokenizers that do not suit a model are told before it is trained."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from palimpsest_stage.chat import check_asking, check_learning, check_policy, ending, ends_of
from palimpsest_stage.errors import ModelUnsuitable
from palimpsest_stage.models import load_causal, load_encoder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from unit.stage.aligned import TEMPLATE
from unit.stage.tiny import tiny_encoder, tiny_folder, tiny_tokenizer

FIELD = "baseModel.chatTemplate"
# </s> of the tiny tokenizer.
ENDS = frozenset({1})
TURNS = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
OPENED = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
# A turn of the assistant's that begins with nothing of its own.
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'user' %}[Q] {{ m.content }} [/Q]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
# Thoughts that were left out are written as none, after what opens the turn.
THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}<think></think>\n"
    "{% endif %}{{ m.content }}</s>\n{% endfor %}"
) + OPENED
# What opens the turn is not what precedes an answer.
THOUGHTFUL = TURNS + "{% if add_generation_prompt %}<|assistant|>\n<think>\n{% endif %}"
QUESTION = "Question: {{ messages[0].content }}\nAnswer:"
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
    + TEMPLATE
)


def tokenizer(template: str | None) -> Any:
    made = tiny_tokenizer()
    made.chat_template = template
    return made


@pytest.mark.parametrize("template", [TEMPLATE, TURNS + OPENED, BRACKETS, THINKING, NO_SYSTEM])
def test_templates_as_models_have_them_are_taken(template: str) -> None:
    check_learning(tokenizer(template), FIELD, ENDS)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "the model has no chat template of its own, give one"),
        ("{% for turn in messages %}", "the chat template cannot render user: "),
        ("{{ messages[0].content + 1 }}", "the chat template cannot render user: "),
        ("Hello. {{ question }}", "leaves the instruction out: it must go over `messages`"),
        (TURNS, r"does not open the assistant's turn with '<\|assistant\|>'"),
        ("{{ messages[3].content }}", "cannot render user: "),
    ],
)
def test_one_that_cannot_ask_is_refused_for_every_method(template: str | None, said: str) -> None:
    for check in (check_policy, partial(check_learning, ends=ENDS)):
        with pytest.raises(ModelUnsuitable, match=f"^{FIELD}: .*{said}"):
            check(tokenizer(template), FIELD)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (THOUGHTFUL, "does not end where its answer begins"),
        (QUESTION, "leaves the answer out"),
        ("{{ messages[0].content }}" + OPENED, "leaves the answer out"),
        (
            "{{ messages[0].content }}{% if messages|length > 1 %} {{ messages[1].content }}"
            "{% else %} A: {% endif %}",
            "does not end where its answer begins",
        ),
    ],
)
def test_one_in_which_a_loss_would_be_over_other_tokens_is_refused(
    template: str, said: str
) -> None:
    with pytest.raises(ModelUnsuitable, match=f"^{FIELD}: .*{said}"):
        check_learning(tokenizer(template), FIELD, ENDS)
    # A policy's own answers are tokens as they were sampled.
    check_policy(tokenizer(template), FIELD)


@pytest.mark.parametrize(
    ("named", "found"), [(None, {1}), (1, {1}), (2, {1, 2}), ([2, 107], {1, 2, 107})]
)
def test_a_turn_ends_with_what_the_tokenizer_or_the_generation_names(
    named: Any, found: set[int]
) -> None:
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=named))
    assert ends_of(model, tokenizer(None)) == found


def test_a_template_in_which_no_answer_ends_is_refused_unless_the_model_ends_so() -> None:
    endless = tokenizer(TEMPLATE.replace("{{ eos_token }}", "\n"))
    said = rf"^{FIELD}: .* writes .*, in which no token ends .*\(</s> would\): write {{{{ eos_"
    with pytest.raises(ModelUnsuitable, match=said):
        check_learning(endless, FIELD, ENDS)
    # A policy's completions end as they were sampled.
    check_policy(endless, FIELD)
    assert ending(endless, ENDS) == []
    other = tokenizer(TEMPLATE.replace("{{ eos_token }}", "<u>\n"))
    with pytest.raises(ModelUnsuitable, match="no token ends a turn"):
        check_learning(other, FIELD, ENDS)
    check_learning(other, FIELD, {1, 2})
    assert ending(other, {1, 2}) == [2]


def test_an_answer_whose_first_token_begins_in_the_prompt_is_refused() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<s>", "</s>", "<u>", *alphabet, "\u01205"]
    inner = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(names)},
            merges=[("\u0120", "5")],
            unk_token="<u>",
        )
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    merging = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<u>")
    merging.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(ModelUnsuitable, match="end it where a token ends"):
        check_learning(merging, FIELD, ENDS)
    merging.chat_template = merging.chat_template.replace("assistant: ", "assistant:")
    check_learning(merging, FIELD, ENDS)


def test_a_system_turn_that_a_template_refuses_or_drops_is_told_by_its_field() -> None:
    field = "annotation.model.chatTemplate"
    check_asking(tokenizer(NO_SYSTEM), field)
    with pytest.raises(ModelUnsuitable, match=r"^annotation.systemPrompt: .*no system turn here"):
        check_asking(tokenizer(NO_SYSTEM), field, "Be brief.")
    check_asking(tokenizer(TEMPLATE), field, "Be brief.")
    # It takes the user's turns alone.
    dropping = "{% for m in messages if m.role == 'user' %}[Q] {{ m.content }} [/Q]{% endfor %}"
    check_asking(tokenizer(dropping), field)
    with pytest.raises(ModelUnsuitable, match=r"^annotation.systemPrompt: .* no place for it"):
        check_asking(tokenizer(dropping), field, "Be brief.")
    # To answer, a model needs no chat: a template may make a question of the instruction.
    check_asking(tokenizer(QUESTION), field)
    with pytest.raises(ModelUnsuitable, match=f"^{field}: the model has no chat template"):
        check_asking(tokenizer(None), field)


def test_a_token_without_an_embedding_is_told_before_a_text_has_it(tmp_path: Path) -> None:
    said = "the tokenizer's last token has the number {}, the model has {} embeddings: take"
    folder = tiny_folder(tmp_path / "causal")
    load_causal(folder, "float32")
    more = AutoTokenizer.from_pretrained(folder)
    more.add_tokens(["<more>"])
    more.save_pretrained(folder)
    with pytest.raises(ModelUnsuitable, match=said.format(259, 259)):
        load_causal(folder, "float32")
    encoder = tiny_encoder(tmp_path / "encoder")
    load_encoder(encoder)
    more = AutoTokenizer.from_pretrained(encoder)
    more.add_tokens(["<more>", "<again>"])
    more.save_pretrained(encoder)
    with pytest.raises(ModelUnsuitable, match=said.format(65, 64)):
        load_encoder(encoder)
