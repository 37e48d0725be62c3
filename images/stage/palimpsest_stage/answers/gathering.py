"""What an endpoint answers, kept as it comes: a later attempt has the rest answered and no more."""

import logging
import time
from collections.abc import Callable

from palimpsest.api.task import EndpointInput
from palimpsest.storage import StoreError, StoreUnavailable

from palimpsest_stage.answers.asking import Asking, Mailbox, Question
from palimpsest_stage.answers.endpoint import Endpoint, Manner
from palimpsest_stage.answers.kept import Answered, Keeper, Place, recall
from palimpsest_stage.errors import Interrupted
from palimpsest_stage.parts import Parts
from palimpsest_stage.runtime import Context

# Seconds before each try to keep what came, once nothing more is asked.
PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)

log = logging.getLogger("palimpsest.stage")


def gather(
    context: Context,
    name: str,
    manner: Manner,
    question: Callable[[Place], str],
    parts: Parts,
    answered: Answered,
    progress: Callable[[Answered], None],
) -> None:
    """Ask the endpoint input called so for what `parts` lack.

    Raises EndpointFailed, and StoreError where the store fails: what came is kept first.
    """
    recall(parts, answered)
    access = context.task.endpoints[name]
    asked = context.input(name, EndpointInput)
    server = Endpoint(asked, access, manner, context.stores.credentials)
    questions = [Question(place, question(place)) for place in answered.missing()]
    mailbox = Mailbox(lambda tell: Asking(server, access, answered.any_taken, tell))
    keeper = Keeper(parts, context.attempt, answered)
    try:
        try:
            for part in mailbox.ask(questions):
                keeper.keep(part)
                progress(answered)
        except StoreError:
            _stop(mailbox, keeper)
            raise
    except Interrupted:
        # Wherever it rose, in the store's trouble too; there is no second one.
        _stop(mailbox, keeper)
        raise


def _stop(mailbox: Mailbox, keeper: Keeper) -> None:
    """Ask nothing more and keep what came, which is paid for, if the store takes it by and by."""
    for part in mailbox.stop():
        keeper.take(part)
    for pause in PAUSES:
        time.sleep(pause)
        try:
            keeper.write()
        except StoreUnavailable as error:
            log.warning("answers that came are not kept yet: %s", error)
        else:
            return
