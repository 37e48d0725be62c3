"""API servers ask the webhook for what it reviews: no more, and no less."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from chart.test_templates import pick, rendered, values
from palimpsest.admission.review import review
from palimpsest.api.crd import RESOURCES

PLURALS = {resource.__name__: resource.plural for resource in RESOURCES}


def reviewed() -> Iterator[tuple[str, str]]:
    """The resources and operations that `review` has a case of."""
    for node in ast.walk(ast.parse(inspect.getsource(review))):
        if isinstance(node, ast.match_case) and isinstance(node.pattern, ast.MatchSequence):
            kind, operations = (ast.unparse(each) for each in node.pattern.patterns)
            for operation in operations.split(" | "):
                yield PLURALS[kind.removesuffix(".kind")], ast.literal_eval(operation)


def test_what_is_reviewed_is_what_is_asked_about() -> None:
    hook = pick(rendered(values()), "ValidatingWebhookConfiguration", "palimpsest-admission")
    (webhook,) = hook["webhooks"]
    asked = [
        (resource, operation)
        for rule in webhook["rules"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    ]
    assert sorted(asked) == sorted(reviewed())
