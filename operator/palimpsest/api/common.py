"""Parts that several resources' specs and statuses are made of."""

import ssl
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from .base import PREFIX, QUANTITY, ApiModel, Digest, ObjectName, StoreUri, said

ShortText = Annotated[str, StringConstraints(max_length=253)]
Quantity = Annotated[
    str,
    StringConstraints(pattern=QUANTITY, max_length=16),
    said(QUANTITY, "must be a Kubernetes quantity without a sign, for example 500m or 8Gi"),
]
LabelMap = Annotated[dict[ShortText, ShortText], Field(max_length=32)]


def rule(expression: str, message: str) -> dict[str, JsonValue]:
    """A CEL rule of a custom resource's schema."""
    return {"rule": expression, "message": message}


def list_map(key: str) -> dict[str, JsonValue]:
    """Schema extra that makes a list a map by `key` for server-side apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


_ROLE = r"^arn:[a-z0-9-]+:iam:[a-z0-9-]*:[A-Za-z0-9-]*:role/[A-Za-z0-9+=,.@_/-]{1,256}$"
_CERTIFICATE = r"^-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s-]*-----END CERTIFICATE-----\s*$"

RoleArn = Annotated[
    str,
    StringConstraints(pattern=_ROLE, max_length=512),
    said(_ROLE, "must be a role's ARN, for example arn:aws:iam::123456789012:role/private-data"),
]
Audience = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9:/._-]+$", max_length=253),
    Field(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!self.startsWith('https://kubernetes.default')",
                    "must not be the API server's own: such a token would enter the cluster",
                )
            ]
        }
    ),
]


def _certificates_parse(pem: str) -> str:
    try:
        ssl.create_default_context(cadata=pem)
    except ssl.SSLError as error:
        raise ValueError("no certificate that can be read; give PEM") from error
    return pem


CaBundle = Annotated[
    str,
    StringConstraints(pattern=_CERTIFICATE, max_length=16384),
    said(
        _CERTIFICATE, "must be PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
    ),
    AfterValidator(_certificates_parse),
]
Endpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+$", max_length=253)]


class StorageAuth(ApiModel):
    """How the store is entered."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.type != 'Secret' || has(self.secretName)",
                    "secretName is required: the Secret with AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or set type: WorkloadIdentity",
                ),
                rule(
                    "self.type == 'Secret' || !has(self.secretName)",
                    "secretName goes with type Secret: remove it, a workload identity has no keys",
                ),
                rule(
                    "self.type != 'WorkloadIdentity' || has(self.roleArn)",
                    "roleArn is required with type WorkloadIdentity: the role that the pods' "
                    "service account may assume",
                ),
                rule(
                    "self.type == 'WorkloadIdentity' || (!has(self.roleArn) && "
                    "!has(self.audience) && !has(self.tokenEndpoint))",
                    "roleArn, audience and tokenEndpoint go with type WorkloadIdentity: set it, "
                    "or remove them",
                ),
            ]
        }
    )

    type: Literal["Secret", "WorkloadIdentity"] = Field(
        "Secret",
        description="Secret: access keys from a Secret of the namespace the pods run in. "
        "WorkloadIdentity: no keys; the pods' service account, named in a token that the cluster "
        "signs for them, assumes roleArn and gets keys that last an hour.",
    )
    secret_name: ObjectName | None = Field(
        None, description="Secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )
    role_arn: RoleArn | None = Field(
        None,
        description="Role that the store's token service gives to the pods' service account "
        "(AssumeRoleWithWebIdentity).",
    )
    audience: Audience | None = Field(
        None, description="Audience of the token; left out: sts.amazonaws.com."
    )
    token_endpoint: Endpoint | None = Field(
        None,
        description="URL of the token service (STS); left out: AWS's of the region. MinIO answers "
        "at the store's own endpoint.",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        identity = self.role_arn, self.audience, self.token_endpoint
        if self.type == "Secret" and (self.secret_name is None or any(identity)):
            raise ValueError("type Secret takes secretName alone")
        if self.type == "WorkloadIdentity" and (self.secret_name or self.role_arn is None):
            raise ValueError("type WorkloadIdentity takes roleArn and no secretName")
        return self


class Encryption(ApiModel):
    """How the store encrypts what is written."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.keyId) == (self.type == 'KMS')",
                    "keyId goes with type KMS, and only with it",
                )
            ]
        }
    )

    type: Literal["AES256", "KMS"] = Field(
        description="AES256: the store's own key. KMS: a key of its key service."
    )
    key_id: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        None, description="The key service's name of the key."
    )

    @model_validator(mode="after")
    def _key_fits_type(self) -> Self:
        if (self.key_id is None) == (self.type == "KMS"):
            raise ValueError("keyId goes with type KMS, and only with it")
        return self


class EgressRule(ApiModel):
    """A destination that the stages' NetworkPolicy lets through (a policy cannot name a host)."""

    cidr: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]{2,39}/[0-9]{1,3}$")] = Field(
        description="Address range of the object store, for example 10.0.0.0/16."
    )
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default_factory=lambda: [443], min_length=1, max_length=8, description="TCP ports."
    )


class Storage(ApiModel):
    """An S3-compatible object store."""

    endpoint: Endpoint = Field(
        description="URL of the store without a path, for example https://s3.example.com."
    )
    region: ShortText = Field("us-east-1", description="Region that requests are signed for.")
    path_style: bool = Field(
        True, description="Address buckets by path (most stores) instead of by host name (AWS)."
    )
    ca_bundle: CaBundle | None = Field(
        None,
        description="Certificates (PEM) of the authorities that the store's is checked against; "
        "left out: the public ones.",
    )
    sse: Encryption | None = Field(
        None,
        description="Encryption that stages ask of the store for what they write; left out: the "
        "bucket's default.",
    )
    auth: StorageAuth
    egress: list[EgressRule] = Field(
        default_factory=list,
        max_length=16,
        description="Where the stages' NetworkPolicy lets pods reach this store.",
    )


class Location(ApiModel):
    """A prefix in an object store."""

    uri: StoreUri = Field(description="s3://bucket/prefix/ ; ends with a slash.")
    storage: Storage


StoredModelUri = Annotated[
    str,
    StringConstraints(pattern=PREFIX, max_length=512),
    said(
        PREFIX,
        "must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way "
        "to a hub or a claim; bring the model into the store with `palimpsest model push`",
    ),
]


class ModelRef(ApiModel):
    """A model in a store, pinned by the digest of its palimpsest-model.json."""

    uri: StoredModelUri = Field(description="s3://bucket/prefix/ that holds the model's files.")
    digest: Digest = Field(
        description="SHA-256 of the model's palimpsest-model.json, which lists every file's digest."
    )


class ResourceRequirements(ApiModel):
    """Kubernetes resource requests and limits."""

    # A pod that requests nothing is starved first and evicted first; in custody that costs privacy.
    requests: Annotated[
        dict[ShortText, Quantity],
        Field(
            max_length=16,
            description="What a node must have free, by resource name; pods that request nothing "
            "are evicted first.",
        ),
    ] = Field({"cpu": "500m", "memory": "1Gi"})
    limits: Annotated[
        dict[ShortText, Quantity],
        Field(max_length=16, description="What the container may use at most, by resource name."),
    ] = Field(default_factory=dict)


class Toleration(ApiModel):
    """A taint that the pods bear, as in a pod's spec."""

    key: ShortText | None = Field(
        None, description="The taint's key; none with operator Exists bears every taint."
    )
    operator: Literal["Exists", "Equal"] = Field(
        "Equal", description="Equal compares the value; Exists takes any."
    )
    value: ShortText | None = Field(None, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect; none stands for all."
    )


_HOST_PATH = r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$"

HostPath = Annotated[
    str,
    StringConstraints(pattern=_HOST_PATH, max_length=255),
    said(_HOST_PATH, "must be an absolute path without a slash at the end, . or .."),
]


class ClaimCache(ApiModel):
    """A model cache on a PersistentVolumeClaim."""

    claim_name: ObjectName = Field(
        description="PersistentVolumeClaim of the namespace the pods run in; ReadWriteMany where "
        "they run on several nodes. Who else writes to it can stop a stage, not deceive it: every "
        "file is checked at every use."
    )


class ModelCache(ApiModel):
    """A volume that keeps models, each under its digest."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.claimName) != has(self.hostPath)",
                    "cache takes either claimName or hostPath",
                )
            ]
        }
    )

    claim_name: ObjectName | None = Field(
        None,
        description="PersistentVolumeClaim of the namespace; ReadWriteMany where pods run on "
        "several nodes.",
    )
    host_path: HostPath | None = Field(
        None,
        description="Folder of the node, there already and writable for user 65532. The Pod "
        "Security standards baseline and restricted forbid it: in a namespace that enforces one "
        "of them no pod starts.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.claim_name is None) == (self.host_path is None):
            raise ValueError("cache takes either claimName or hostPath")
        return self


class PrivateCompute(ApiModel):
    """Where and with what a stage's pods run in custody, within the budget's custodian.compute.

    Image, command, volumes and service account are not the tenant's to choose.
    """

    resources: ResourceRequirements = Field(
        default_factory=ResourceRequirements,
        description="Requests and limits of the stage's container, extended resources included.",
    )
    scratch: Quantity = Field("8Gi", description="Size limit of the pod's scratch volume.")
    shared_memory: Quantity | None = Field(
        None, description="Size of /dev/shm, in memory; left out: the container runtime's 64Mi."
    )
    node_selector: LabelMap = Field(default_factory=dict, description="Labels a node must carry.")
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=16, description="Taints that the pods bear."
    )
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass of the pods.")
    runtime_class_name: ObjectName | None = Field(
        None,
        description="RuntimeClass of the pods, for example a sandbox's.",
    )


class NodeExpression(ApiModel):
    """What a node's label must be, as in a pod's spec."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(self.operator in ['In', 'NotIn']) == "
                    "(has(self.values) && size(self.values) > 0)",
                    "values go with operator In and NotIn, at least one, and with no other",
                )
            ]
        }
    )

    key: ShortText = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="In, NotIn: one of values, none of them. Exists, DoesNotExist: any, none."
    )
    values: list[ShortText] = Field(
        default_factory=list, max_length=16, description="With In and NotIn."
    )

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError("values go with operator In and NotIn, and with no other")
        return self


class NodeTerm(ApiModel):
    """Nodes for which all expressions hold."""

    match_expressions: list[NodeExpression] = Field(
        min_length=1, max_length=8, description="All of them must hold."
    )


class RequiredNodes(ApiModel):
    """Nodes for which one term holds."""

    node_selector_terms: list[NodeTerm] = Field(
        min_length=1, max_length=4, description="One of them must hold."
    )


class PreferredNodes(ApiModel):
    """Nodes that are better than others."""

    weight: Annotated[int, Field(ge=1, le=100)] = Field(
        description="What it counts against the others, 1 to 100."
    )
    preference: NodeTerm = Field(description="The better nodes.")


class NodeAffinity(ApiModel):
    """Nodes by their labels, as in a pod's spec; without fields and numbers (Gt, Lt)."""

    required_during_scheduling_ignored_during_execution: RequiredNodes | None = Field(
        None, description="Nodes that pods may run on."
    )
    preferred_during_scheduling_ignored_during_execution: list[PreferredNodes] = Field(
        default_factory=list, max_length=4, description="Nodes that they had better run on."
    )


class Affinity(ApiModel):
    """Where pods go, as in a pod's spec."""

    node_affinity: NodeAffinity = Field(description="Nodes by their labels.")


class SpreadConstraint(ApiModel):
    """How the pods of one Job lie apart, as in a pod's spec; the selector is the operator's."""

    topology_key: ShortText = Field(
        description="Node label whose values are the places, for example kubernetes.io/hostname."
    )
    max_skew: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="By how many pods two places may differ."
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        "ScheduleAnyway", description="What a pod does for which there is no such place."
    )


class TrainingCompute(PrivateCompute):
    """Where and with what a training's pods run in custody, within the budget's custodian.compute.

    Image, command, volumes and service account are not the tenant's to choose. Replicas and
    processes change neither what is computed nor what it costs.
    """

    replicas: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Pods that train together, each with `resources`; what passes between them is "
        "neither encrypted nor private yet, so more than one needs the custodian's maxReplicas.",
    )
    processes_per_replica: Annotated[int, Field(ge=1, le=16)] = Field(
        1, description="Processes in each pod, as many as it has GPUs; they share its processors."
    )

    @property
    def processes(self) -> int:
        """Of all pods together."""
        return self.replicas * self.processes_per_replica


class Compute(PrivateCompute):
    """Where and with what a stage's pods run. Image, command and volumes are the operator's."""

    cache: ModelCache | None = Field(
        None,
        description="Where models are kept from pod to pod; left out: each pod fetches its own.",
    )
    queue_name: ObjectName | None = Field(
        None,
        description="Kueue LocalQueue of the namespace: Jobs are made suspended and start when it "
        "admits them.",
    )
    image_pull_secrets: list[ObjectName] = Field(
        default_factory=list, max_length=8, description="Secrets to pull the stage's image with."
    )
    service_account_name: ObjectName | None = Field(
        None, description="Service account of the pods; they get no API token either way."
    )
    affinity: Affinity | None = Field(None, description="Nodes that pods may or had better run on.")
    topology_spread_constraints: list[SpreadConstraint] = Field(
        default_factory=list,
        max_length=4,
        json_schema_extra=list_map("topologyKey"),
        description="How the pods of a sharded stage lie apart.",
    )
    scheduler_name: ObjectName | None = Field(
        None, description="Scheduler of the pods; left out: the cluster's own."
    )


TtlSeconds = Annotated[int, Field(ge=0, le=31_536_000)]
TTL_DESCRIPTION = (
    "Seconds after the resource is Ready when its Jobs and pods are deleted; the resource and what "
    "it published stay. Left out: they are kept. Failed Jobs are kept too."
)


class LocalRef(ApiModel):
    """Another resource of the same namespace."""

    name: ObjectName = Field(description="Its name.")


class Condition(ApiModel):
    """As metav1.Condition."""

    type: ShortText = Field(description="What it speaks of.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=128)] = (
        Field(description="Why, in one word, for programs.")
    )
    message: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="Why, and what helps, for people."
    )
    last_transition_time: ShortText = Field(description="When `status` changed last, RFC 3339.")
    observed_generation: int = Field(0, description="Generation of the spec that it speaks of.")


class ArtifactRef(ApiModel):
    """A published artifact: its manifest and the manifest's digest."""

    uri: Annotated[str, StringConstraints(max_length=512)] = Field(
        description="The artifact's manifest."
    )
    digest: Digest = Field(description="SHA-256 of the manifest, which lists every file's.")


class ChargeStatus(ApiModel):
    """What a stage was charged to the budget."""

    id: ShortText = Field(description="The charge's id in the journal.")
    state: Literal["Reserved", "Started", "Committed", "Released"] = Field(
        description="Reserved: set aside. Started: private records were opened. Committed: spent. "
        "Released: given back, nothing was opened."
    )
    share: ShortText = Field(
        description="Part of the budget's gate, a decimal from 0 to 1; shares add, epsilons do not."
    )
    noise_multiplier: ShortText = Field(
        description="Standard deviation of the noise over the clipping norm."
    )


CheckpointInterval = Annotated[int, Field(ge=1, le=1_000_000)]
CHECKPOINTS = (
    "Steps between checkpoints. One is kept beside the output, the newest; a pod that follows a "
    "killed one goes on from it to the same result. It is deleted once the model is published."
)


# What alignment's stages tell of their last step; of synthetic data alone.
FIGURES = ("loss", "reward", "kl", "completionTokens", "accuracy", "margin")
Figure = Annotated[str, StringConstraints(pattern=r"^-?[0-9.]+(e[+-][0-9]+)?$", max_length=20)]


class StageStatus(ApiModel):
    """How far one stage is."""

    name: ShortText = Field(description="The stage.")
    state: Literal["Waiting", "Pending", "Running", "Succeeded", "Failed"] = Field(
        description="Waiting for another stage, Pending until its pod runs, then Running, "
        "Succeeded or Failed."
    )
    progress: ShortText = Field("", description="Done of all, in the stage's own unit.")
    figures: dict[ShortText, Figure] = Field(
        default_factory=dict,
        max_length=len(FIGURES),
        description=f"Of the last step, while an alignment runs: {', '.join(FIGURES)}.",
    )
    job: ShortText = Field("", description="The Job of the current attempt.")
    message: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="What it waits for, or why it failed."
    )
    start_time: ShortText = Field("", description="When its first Job started, RFC 3339.")
    completion_time: ShortText = Field("", description="When it ended, RFC 3339.")
    artifacts: list[ArtifactRef] = Field(
        default_factory=list, max_length=64, description="What it published."
    )
    charge: ChargeStatus | None = Field(
        None,
        description="What it was charged to the budget; stages that read no record have none.",
    )


class CommonStatus(ApiModel):
    """What every resource's status tells."""

    observed_generation: int = Field(
        0, description="Generation of the spec that the status speaks of."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Ready, Reconciling and Stalled, as kstatus reads them, and the kind's own.",
    )
    summary: Annotated[str, StringConstraints(max_length=253)] = Field(
        "", description="The reason of the Ready condition, for the printer column."
    )


def immutable(kind: str, *fields: str) -> list[JsonValue]:
    """CEL rules that hold `fields` of a spec as created.

    They sit on the parent and compare presence too: a rule on an optional field itself does not
    run when the field is removed, nor when it is added again.
    """
    return [
        rule(
            f"has(self.{field}) == has(oldSelf.{field}) && "
            f"(!has(self.{field}) || self.{field} == oldSelf.{field})",
            f"spec.{field} is immutable: make another {kind}",
        )
        for field in fields
    ]
