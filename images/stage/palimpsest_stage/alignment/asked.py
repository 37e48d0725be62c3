"""An endpoint that tells better answers from worse ones."""

from collections.abc import Callable, Sequence

from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import RewardParameters, canonical_json, sha256_digest

from palimpsest_stage.alignment.verdicts import (
    COMPARING,
    MARKING,
    Judged,
    agreed,
    comparison,
    mark,
    marking,
)
from palimpsest_stage.answers.endpoint import Manner
from palimpsest_stage.answers.gathering import gather
from palimpsest_stage.answers.kept import Answered
from palimpsest_stage.answers.policy import MOST_REJECTED
from palimpsest_stage.errors import EndpointFailed, InvalidTask
from palimpsest_stage.parts import Parts
from palimpsest_stage.runtime import Context

Progress = Callable[[int, int, str], None]


class Asked:
    """The endpoint input called so. What it says is kept for a later attempt that asks the same."""

    def __init__(
        self, context: Context, name: str, parameters: RewardParameters, progress: Progress
    ) -> None:
        """Raises InvalidTask."""
        if parameters.max_new_tokens is None:
            raise InvalidTask("parameters: an endpoint's verdict needs maxNewTokens")
        self._context, self._name, self._progress = context, name, progress
        self._tokens = parameters.max_new_tokens

    def mark(self, instructions: Sequence[str], answers: Sequence[str]) -> list[float]:
        """A mark for each answer alone, 1 to 10, or no number. Raises EndpointFailed."""
        pairs = zip(instructions, answers, strict=True)
        replies = self._ask(MARKING, [[marking(*pair)] for pair in pairs])
        return [mark(reply) for (reply,) in replies]

    def compare(
        self, instructions: Sequence[str], ours: Sequence[str], theirs: Sequence[str]
    ) -> Judged:
        """Whose answer is better, asked in both orders. Raises EndpointFailed.

        Answers that are the same are a tie without a word.
        """
        rows = list(zip(instructions, ours, theirs, strict=True))
        differ = [number for number, (_, our, their) in enumerate(rows) if our != their]
        questions = [
            [comparison(asked, our, their), comparison(asked, their, our)]
            for asked, our, their in (rows[number] for number in differ)
        ]
        found = agreed([(first, second) for first, second in self._ask(COMPARING, questions)])
        scores = [0] * len(rows)
        for number, score in zip(differ, found.scores, strict=True):
            scores[number] = score
        return Judged(scores, found.unparsable, found.inconsistent)

    def reach(self, instructions: Sequence[str], answers: Sequence[str]) -> None:
        """Ask until something is taken, to find now whether it can be asked.

        Raises EndpointFailed.
        """
        pairs = list(zip(instructions, answers, strict=True))[:MOST_REJECTED]
        for left, (asked, told) in zip(range(len(pairs) - 1, -1, -1), pairs, strict=True):
            try:
                self._ask(COMPARING, [[comparison(asked, told, told)]])
            except EndpointFailed as error:
                # It may be this prompt alone that is not taken.
                if error.outcome is not Outcome.ENDPOINT_REFUSED or not left:
                    raise
            else:
                return

    def _ask(self, rubric: str, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        if not questions:
            return []
        # A model that was trained anew may answer otherwise: what was said of others is not its.
        digest = sha256_digest(canonical_json([rubric, self._tokens, questions]))
        parts = Parts(self._context, f"{self._name}-{digest[7:23]}/")
        answered = Answered(len(questions), len(questions[0]))
        gather(
            self._context,
            self._name,
            Manner(rubric, self._tokens),
            lambda place: questions[place.row][place.number],
            parts,
            answered,
            lambda told: self._progress(told.done, told.wanted, "verdicts"),
        )
        return answered.texts()
