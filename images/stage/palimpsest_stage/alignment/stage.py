"""What a stage of any method does around its training: ask before and after, publish."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from palimpsest.api.evaluation import GATES, Gates
from palimpsest.api.task import AlignParameters, ArtifactInput, RlhfParameters

from palimpsest_stage.alignment import evaluation, tuning
from palimpsest_stage.alignment.card import Card, render
from palimpsest_stage.chat import check_learning, check_policy, ends_of
from palimpsest_stage.lineage import receipts
from palimpsest_stage.models import load_causal
from palimpsest_stage.runtime import Context, write_json


@dataclass(frozen=True)
class Trained:
    """A trained model; `summary` goes to training.json, the rest to the card."""

    model: Any
    method: str
    summary: dict[str, Any]
    learnt: str
    settings: dict[str, str]
    losses: list[float]


def align(
    context: Context, parameters: AlignParameters, train: Callable[[Any, Any], Trained]
) -> None:
    """Publish what `train` (of a model and its tokenizer) makes of the base model.

    In Hugging Face's layout, with README.md, training.json, evaluation.json and gates.json.
    """
    base, paid = tuning.base(context), receipts(context, "dataset")
    measured = parameters.evaluation
    prompts = evaluation.read_prompts(context, measured)
    model, tokenizer = load_causal(context.model("base"), "bfloat16", parameters.chat_template)
    # Of a policy's own answers the loss is TRL's, token by token as they were sampled.
    if isinstance(parameters, RlhfParameters):
        check_policy(tokenizer, "baseModel.chatTemplate")
    else:
        check_learning(tokenizer, "baseModel.chatTemplate", ends_of(model, tokenizer))
    before = evaluation.examine(context, measured, prompts, model, tokenizer)
    evaluation.reach_judge(context, measured, prompts, before)

    trained = train(tuning.prepare(model, parameters), tokenizer)

    out = context.folder("out")
    tuning.save(trained.model, tokenizer, out, base)
    after = evaluation.examine(context, measured, prompts, trained.model, tokenizer)
    by_judge = evaluation.judged(context, measured, prompts, before, after)
    figures = evaluation.compare(before, after, by_judge)
    asked = evaluation.asked(prompts, before, after)
    told = figures.told() if figures else {}
    write_json(out / "evaluation.json", {"prompts": asked, **told})
    gates = evaluation.failures(figures, measured.gates if measured else Gates())
    write_json(out / GATES, gates.model_dump(by_alias=True))
    write_json(out / "training.json", trained.summary)
    card = Card(
        name=context.task.subject.name,
        method=trained.method,
        base=tuning.reference(base),
        dataset=context.input("dataset", ArtifactInput).uri,
        guarantee=parameters.guarantee,
        receipts=paid,
        learnt=trained.learnt,
        settings={**tuning.settings(parameters), **trained.settings},
        losses=trained.losses,
        merged=parameters.merge,
        asked=asked,
        figures=told,
        failed=[one.gate for one in gates.failed],
    )
    (out / "README.md").write_text(render(card), encoding="utf-8")
    context.publish({path.name: path for path in out.iterdir() if path.is_file()})
