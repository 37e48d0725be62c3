"""The closed set of words in which a stage may end. Nothing else leaves a private stage's process.

Whether an outcome occurs may depend on public inputs, on the cluster and on the journal, never on
record values (a bad record contributes zero and the run goes on). AuditFailed depends on the noised
gradients too, which are part of what the charge pays for (docs/audit.md), and OutOfResources on all
that takes memory, which the custodian's caps keep from telling of records (docs/threat-model.md).
"""

from enum import StrEnum


class Outcome(StrEnum):
    """How a stage's attempt ended."""

    COMPLETED = "Completed"
    INTERRUPTED = "Interrupted"
    STORE_UNAVAILABLE = "StoreUnavailable"
    INVALID_TASK = "InvalidTask"
    INPUT_MISMATCH = "InputMismatch"
    ACCESS_DENIED = "AccessDenied"
    CHARGE_REFUSED = "ChargeRefused"
    MODEL_UNSUITABLE = "ModelUnsuitable"
    DATASET_UNSUITABLE = "DatasetUnsuitable"
    OUT_OF_RESOURCES = "OutOfResources"
    AUDIT_FAILED = "AuditFailed"
    ENDPOINT_ACCESS_DENIED = "EndpointAccessDenied"
    ENDPOINT_NOT_FOUND = "EndpointNotFound"
    ENDPOINT_REFUSED = "EndpointRefused"
    ENDPOINT_UNREACHABLE = "EndpointUnreachable"
    ENDPOINT_TIMED_OUT = "EndpointTimedOut"
    ENDPOINT_FAILING = "EndpointFailing"
    ENDPOINT_RATE_LIMITED = "EndpointRateLimited"
    ENDPOINT_GARBLED = "EndpointGarbled"
    DIVERGED = "Diverged"
    INTERNAL_ERROR = "InternalError"

    @property
    def of_the_program(self) -> bool:
        """Whether the program, its inputs or its charge ended it, and not what passes."""
        return EXIT_CODES[self] not in (0, RETRYABLE_EXIT_CODE)

    @property
    def of_the_endpoint(self) -> bool:
        """Whether what an endpoint did ended it."""
        return self.value.startswith("Endpoint")


EXIT_CODES: dict[Outcome, int] = {
    Outcome.COMPLETED: 0,
    # 75 (EX_TEMPFAIL): worth another attempt.
    Outcome.INTERRUPTED: 75,
    Outcome.STORE_UNAVAILABLE: 75,
    Outcome.INVALID_TASK: 64,
    Outcome.INPUT_MISMATCH: 65,
    Outcome.MODEL_UNSUITABLE: 66,
    Outcome.DATASET_UNSUITABLE: 67,
    Outcome.OUT_OF_RESOURCES: 71,
    Outcome.ACCESS_DENIED: 77,
    Outcome.CHARGE_REFUSED: 78,
    Outcome.AUDIT_FAILED: 79,
    # Each ends its Job at once: the condition says what the endpoint does, and the operator waits.
    Outcome.ENDPOINT_ACCESS_DENIED: 80,
    Outcome.ENDPOINT_NOT_FOUND: 81,
    Outcome.ENDPOINT_REFUSED: 82,
    Outcome.ENDPOINT_UNREACHABLE: 83,
    Outcome.ENDPOINT_TIMED_OUT: 84,
    Outcome.ENDPOINT_FAILING: 85,
    Outcome.ENDPOINT_RATE_LIMITED: 86,
    Outcome.ENDPOINT_GARBLED: 87,
    Outcome.DIVERGED: 88,
    Outcome.INTERNAL_ERROR: 70,
}
RETRYABLE_EXIT_CODE = 75

MESSAGES: dict[Outcome, str] = {
    Outcome.COMPLETED: "The stage finished and published its artifact.",
    Outcome.INTERRUPTED: (
        "The stage was asked to stop, or one of its processes was lost; it resumes from its last "
        "checkpoint."
    ),
    Outcome.STORE_UNAVAILABLE: (
        "The object store, or the model hub, did not answer; the stage will be tried again."
    ),
    Outcome.INVALID_TASK: "The task was refused: do operator and stage image differ in version?",
    Outcome.INPUT_MISMATCH: (
        "A public input is not there, or its digest is not the declared one (was it replaced?), or "
        "people's answers do not fit the instructions, or a line of evaluation.prompts or of "
        "preferences is malformed, or evaluation.gates bounds what no prompt can measure (an "
        "answer, checks); outside custody the pod's log says more."
    ),
    Outcome.ACCESS_DENIED: (
        "The object store, or the model hub, denied access: check the Secret's keys and policy."
    ),
    Outcome.CHARGE_REFUSED: "The journal accepts no further start or block for this charge.",
    Outcome.MODEL_UNSUITABLE: (
        "The model cannot be used here: it must be a causal language model in safetensors whose "
        "linear layers include the adapters' targets, with 16 parameters of theirs for each "
        "canary of an audit; to answer or to be aligned it needs a chat template (chatTemplate) "
        "that renders instruction and answer, and always the tokenizer that belongs to it. A "
        "reward must be a sequence classifier with one output, or spec.reward.trained must be able "
        "to make one of its base model. The pod's log names the field."
    ),
    Outcome.DATASET_UNSUITABLE: (
        "No example can be learnt from: the data set has no rows, fewer than rlhf.promptsPerStep, "
        "or no usable answers (spec.annotation), none begins within maxLength, or no row has a "
        "better and a worse one (annotation.answers); or dpo.preferences has no pair within "
        "maxLength, or spec.reward.trained.preferences too few. The pod's log says it."
    ),
    Outcome.OUT_OF_RESOURCES: (
        "Memory or scratch space ran out, or a model is too large for it: raise spec.compute."
    ),
    Outcome.AUDIT_FAILED: (
        "The audit's lower bound on epsilon reaches the claim: nothing is released, the charge "
        "stays spent. Do not train with this stage image again before the cause is found."
    ),
    Outcome.ENDPOINT_ACCESS_DENIED: (
        "The endpoint refused the key (401, 402 or 403), or the Secret has none: check API_KEY "
        "there, and the account's rights and credit. What was answered is kept."
    ),
    Outcome.ENDPOINT_NOT_FOUND: (
        "The endpoint knows no such path or model (404, 405 or 410), or redirects, which is not "
        "followed: check the endpoint's baseURL, to which /chat/completions is appended, and "
        "model. What was answered is kept."
    ),
    Outcome.ENDPOINT_REFUSED: (
        "The endpoint refused all it was asked, not one instruction but every one: check that its "
        "model takes chat completions with this maxNewTokens (an annotation's systemPrompt, "
        "temperature and topP too; else temperature is 0). What was answered is kept."
    ),
    Outcome.ENDPOINT_UNREACHABLE: (
        "For patienceSeconds the endpoint took no connection: check baseURL, caBundle, and that "
        "the namespace's pods may reach it. What was answered is kept."
    ),
    Outcome.ENDPOINT_TIMED_OUT: (
        "For patienceSeconds the endpoint finished no answer within timeoutSeconds: raise that, or "
        "lower concurrency or maxNewTokens, or look at the server. What was answered is kept."
    ),
    Outcome.ENDPOINT_FAILING: (
        "For patienceSeconds the endpoint said that it fails (5xx): look at the server. What was "
        "answered is kept."
    ),
    Outcome.ENDPOINT_RATE_LIMITED: (
        "For patienceSeconds the endpoint asked to be left alone (429): lower requestsPerMinute or "
        "concurrency, or raise the account's limit. What was answered is kept."
    ),
    Outcome.ENDPOINT_GARBLED: (
        "For patienceSeconds the endpoint broke its answers off or sent what is no chat completion "
        "(choices[0].message.content): check that baseURL leads to such a server. What was "
        "answered is kept."
    ),
    Outcome.DIVERGED: (
        "The alignment diverged: KL above rlhf.maxKL, or a loss or reward that is no number. A "
        "training's fields are immutable: make another AlignmentRun, with a lower learningRate or "
        "a higher rlhf.klCoefficient (DPO: beta), or another reward where that is no number."
    ),
    Outcome.INTERNAL_ERROR: (
        "The stage failed; the details are in the custodian's report (or, outside custody, in "
        "the pod's log)."
    ),
}
