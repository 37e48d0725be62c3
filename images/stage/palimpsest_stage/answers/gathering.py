"""What an endpoint answers, kept as it comes: a later attempt has the rest answered and no more."""

from collections.abc import Callable

from palimpsest.api.task import EndpointInput

from palimpsest_stage.answers.asking import Asking, Mailbox, Question
from palimpsest_stage.answers.endpoint import Endpoint, Manner
from palimpsest_stage.answers.kept import Answered, Keeper, Place, recall
from palimpsest_stage.errors import Interrupted
from palimpsest_stage.parts import Parts
from palimpsest_stage.runtime import Context


def gather(
    context: Context,
    name: str,
    manner: Manner,
    question: Callable[[Place], str],
    parts: Parts,
    answered: Answered,
    progress: Callable[[Answered], None],
) -> None:
    """Ask the endpoint input called so for what `parts` lack. Raises EndpointFailed."""
    recall(parts, answered)
    access = context.task.endpoints[name]
    asked = context.input(name, EndpointInput)
    server = Endpoint(asked, access, manner, context.stores.credentials)
    questions = [Question(place, question(place)) for place in answered.missing()]
    mailbox = Mailbox(lambda tell: Asking(server, access, answered.any_taken, tell))
    keeper = Keeper(parts, context.attempt, answered)
    try:
        for part in mailbox.ask(questions):
            keeper.keep(part)
            progress(answered)
    except Interrupted:
        for part in mailbox.stop():
            keeper.keep(part)
        raise
