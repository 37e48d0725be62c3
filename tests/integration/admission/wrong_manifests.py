"""The table of wrong manifests, with all that the real API server says to each."""

from __future__ import annotations

from integration.admission.wrong import Wrong
from samples import DIGEST

COMMIT = "c" * 40
ENDPOINT = {"baseURL": "https://api.example.com/v1", "model": "large-1"}
PAIRS = {"uri": "s3://models/pairs.jsonl", "digest": DIGEST}

WRONG: tuple[Wrong, ...] = (
    Wrong(
        "generator",
        {"metadata.name": "x" * 64},
        'PrivateGenerator.palimpsest.dev "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" is invalid: <nil>: Invalid value: "object": metadata.name must have at most 63 characters: it labels Jobs and pods',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "NaN"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "NaN": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "Infinity"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "Infinity": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "-1"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "-1": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "0"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "0": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "1e3"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "1e3": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "0.0"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "0.0": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "01"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "01": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "+3"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "+3": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": ""},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": " 3"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: " 3": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "3,5"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "3,5": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "1e400"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "1e400": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "three"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "three": spec.privacy.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.privacy.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "999999999999999999999"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Too long: may not be more than 20 bytes, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": 3},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Invalid value: "integer": spec.privacy.epsilon in body must be of type string: "integer", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": None},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.privacy.epsilon: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "0.2"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.privacy.epsilon: 0.2 is below 0.3, the least that a training may ask for',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "4"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.privacy.epsilon: 4 does not fit: at most 2.44 is left at this batch size and number of steps (needs 23% of the gate of PrivacyBudget "wrong-terms", 10% is left)',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "0.0000000001"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.privacy.epsilon: 0.0000000001 is below 0.3, the least that a training may ask for',
    ),
    Wrong(
        "generator",
        {"spec.budgetRef": None},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.budgetRef: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.budgetRef.name": "Chat"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.budgetRef.name: Invalid value: "Chat": spec.budgetRef.name in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\'',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.uri": "https://hub/model"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.baseModel.uri: Invalid value: "https://hub/model": spec.baseModel.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.baseModel.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way to a hub or a claim; bring the model into the store with `palimpsest model push`]',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.uri": "s3://models/generator"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.baseModel.uri: Invalid value: "s3://models/generator": spec.baseModel.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.baseModel.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way to a hub or a claim; bring the model into the store with `palimpsest model push`]',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.digest": "sha256:abc"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.baseModel.digest: Invalid value: "sha256:abc": spec.baseModel.digest in body should match \'^sha256:[0-9a-f]{64}$\', spec.baseModel.digest: Invalid value: "string": must be sha256: and 64 lower-case hexadecimal digits]',
    ),
    Wrong(
        "generator",
        {
            "spec.baseModel.digest": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            "spec.privacy.epsilon": "1",
        },
        'admission webhook "validate.palimpsest.dev" denied the request: spec.baseModel: s3://models/generator/ is not one of the allowedModels of PrivacyBudget "wrong-terms" (URI and digest must both agree)',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.uri": "s3://models/../private/", "spec.privacy.epsilon": "1"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.baseModel: s3://models/../private/ is not one of the allowedModels of PrivacyBudget "wrong-terms" (URI and digest must both agree)',
    ),
    Wrong(
        "generator",
        {"spec.training.steps": 0},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training.steps: Invalid value: 0: spec.training.steps in body should be greater than or equal to 1',
    ),
    Wrong(
        "generator",
        {"spec.training.steps": "440"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.steps: Invalid value: "string": spec.training.steps in body must be of type integer: "string", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.training.steps": 1.5},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.steps: Invalid value: "number": spec.training.steps in body must be of type integer: "number", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.training.expectedBatchSize": 2000000},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training.expectedBatchSize: Invalid value: 2000000: spec.training.expectedBatchSize in body should be less than or equal to 1000000',
    ),
    Wrong(
        "generator",
        {"spec.training.expectedBatchSize": 180001, "spec.privacy.epsilon": "1"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.training.expectedBatchSize: 180001 is more than the 180000 records that PrivacyBudget "wrong-terms" declares',
    ),
    Wrong(
        "generator",
        {"spec.training.restarts": 11},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training.restarts: Invalid value: 11: spec.training.restarts in body should be less than or equal to 10',
    ),
    Wrong(
        "generator",
        {"spec.training.clippingNorm": "0"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.clippingNorm: Invalid value: "0": spec.training.clippingNorm in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.training.clippingNorm: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.training.clippingNorm": "inf"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.clippingNorm: Invalid value: "inf": spec.training.clippingNorm in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.training.clippingNorm: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.training.learningRate": "-0.1"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.learningRate: Invalid value: "-0.1": spec.training.learningRate in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.training.learningRate: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "generator",
        {"spec.training.precision": "float16"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.precision: Unsupported value: "float16": supported values: "bfloat16", "float32", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.training.epochs": "3"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training: Invalid value: "object": steps and epochs say the same: give one of them',
    ),
    Wrong(
        "generator",
        {"spec.training.schedule": {"warmupSteps": 440}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training: Invalid value: "object": schedule.warmupSteps must be below steps',
    ),
    Wrong(
        "generator",
        {"spec.training.optimizer": {"momentum": "0.9"}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training.optimizer: Invalid value: "object": momentum goes with type SGD: AdamW has its own (0.9)',
    ),
    Wrong(
        "generator",
        {"spec.training.optimizer": {"type": "SGD", "momentum": "1"}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.optimizer.momentum: Invalid value: "1": spec.training.optimizer.momentum in body should match \'^0(\\.[0-9]{0,11}[1-9])?$\', spec.training.optimizer.momentum: Invalid value: "string": must be 0 or a decimal below 1 as a string, for example "0.9"]',
    ),
    Wrong(
        "generator",
        {"spec.training.maxLength": 4},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training.maxLength: Invalid value: 4: spec.training.maxLength in body should be greater than or equal to 8',
    ),
    Wrong(
        "generator",
        {"spec.training.seed": 7},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.training.seed"',
    ),
    Wrong(
        "generator",
        {"spec.training.noiseMultiplier": "0.1"},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.training.noiseMultiplier"',
    ),
    Wrong(
        "generator",
        {"spec.training.prompt": "x" * 513},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.training.prompt: Too long: may not be more than 512 bytes, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.training.lora": {"rank": 0}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.training.lora.rank: Invalid value: 0: spec.training.lora.rank in body should be greater than or equal to 1',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"image": "evil"}},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.compute.image"',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"serviceAccountName": "default"}},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.compute.serviceAccountName"',
    ),
    Wrong(
        "generator",
        {
            "spec.compute": {"resources": {"requests": {"memory": "32Gi"}}},
            "spec.privacy.epsilon": "1",
        },
        'admission webhook "validate.palimpsest.dev" denied the request: spec.compute.resources.requests: 32Gi of memory is above the custodian\'s cap of 16Gi (custodian.compute.maxResources of the budget)',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"resources": {"requests": {"memory": "lots"}}}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.compute.resources.requests.memory: Invalid value: "lots": spec.compute.resources.requests.memory in body should match \'^[0-9]{1,9}(\\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$\', spec.compute.resources.requests[memory]: Invalid value: "string": must be a Kubernetes quantity without a sign, for example 500m or 8Gi]',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"nodeSelector": {"zone": "far"}}, "spec.privacy.epsilon": "1"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.compute.nodeSelector: zone=far is not among the node labels that the custodian lists (none of it; custodian.compute.nodeLabels of the budget)',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"tolerations": [{"operator": "Exists"}]}, "spec.privacy.epsilon": "1"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.compute.tolerations: a toleration of every taint is not among those that the custodian lists (custodian.compute.tolerations of the budget)',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"replicas": 2}, "spec.privacy.epsilon": "1"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.compute.replicas: 2 is above the custodian\'s cap of 1 (custodian.compute.maxReplicas of the budget)',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"processesPerReplica": 0}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.compute.processesPerReplica: Invalid value: 0: spec.compute.processesPerReplica in body should be greater than or equal to 1',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"scratch": "-1Gi"}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.compute.scratch: Invalid value: "-1Gi": spec.compute.scratch in body should match \'^[0-9]{1,9}(\\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$\', spec.compute.scratch: Invalid value: "string": must be a Kubernetes quantity without a sign, for example 500m or 8Gi]',
    ),
    Wrong(
        "generator",
        {"spec.ttlSecondsAfterFinished": -1},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.ttlSecondsAfterFinished: Invalid value: -1: spec.ttlSecondsAfterFinished in body should be greater than or equal to 0',
    ),
    Wrong(
        "generator",
        {"spec.suspend": "yes"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.suspend: Invalid value: "string": spec.suspend in body must be of type boolean: "string", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.Privacy": {"epsilon": "1"}},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.Privacy"',
    ),
    Wrong(
        "generator",
        {"spec": None},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.privacy.epsilon": "0.9"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.privacy is immutable: make another PrivateGenerator',
        later=True,
    ),
    Wrong(
        "generator",
        {"spec.audit": {"canaries": 8}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec.audit.canaries: Invalid value: 8: spec.audit.canaries in body should be greater than or equal to 16',
    ),
    Wrong(
        "generator",
        {"spec.audit": {"canaries": 200, "confidence": "0.5"}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.audit.confidence: Invalid value: "0.5": spec.audit.confidence in body should match \'^0\\.[89][0-9]{0,5}$\', spec.audit.confidence: Invalid value: "string": must be a decimal from 0.8 to below 1 as a string, for example "0.95"]',
    ),
    Wrong(
        "generator",
        {"spec.audit": {"canaries": 20}},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.audit.canaries: 20 canaries cannot refute epsilon 4: the largest bound that they could prove is 0.434; take 338 canaries, or set spec.audit.required to false to train without a test of the claim',
    ),
    Wrong(
        "generator",
        {"spec.audit": {"canaries": 400}},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.audit is immutable: make another PrivateGenerator',
        later=True,
    ),
    Wrong(
        "generator",
        {"spec.budgetRef.name": "other"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.budgetRef is immutable: make another PrivateGenerator',
        later=True,
    ),
    Wrong(
        "generator",
        {
            "spec.baseModel.digest": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
        },
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.baseModel is immutable: make another PrivateGenerator',
        later=True,
    ),
    Wrong(
        "generator",
        {"spec.training.steps": 441},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.training is immutable: make another PrivateGenerator',
        later=True,
    ),
    Wrong(
        "generator",
        {"spec.training.prompt": "other"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.training is immutable: make another PrivateGenerator',
        later=True,
    ),
    Wrong(
        "generator",
        {"spec.compute": {"priorityClassName": "system-node-critical"}},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.compute.priorityClassName: system-node-critical is not among those that the custodian lists (none; custodian.compute.priorityClassNames of the budget)',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.dataset.uri": "s3://Private/x/"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.uri: Invalid value: "s3://Private/x/": spec.dataset.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.dataset.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.uri": "file:///x/"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.uri: Invalid value: "file:///x/": spec.dataset.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.dataset.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.uri": "s3://private/chat"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.uri: Invalid value: "s3://private/chat": spec.dataset.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.dataset.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.records": 0},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.records: Invalid value: 0: spec.dataset.records in body should be greater than or equal to 100',
    ),
    Wrong(
        "budget",
        {"spec.dataset.records": 99},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.records: Invalid value: 99: spec.dataset.records in body should be greater than or equal to 100',
    ),
    Wrong(
        "budget",
        {"spec.dataset.records": "many"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.records: Invalid value: "string": spec.dataset.records in body must be of type integer: "string", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.format": "CSV"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.format: Unsupported value: "CSV": supported values: "JSONL", "Parquet", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.textField": "a b"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.textField: Invalid value: "a b": spec.dataset.textField in body should match \'^[A-Za-z_][A-Za-z0-9_]{0,62}$\'',
    ),
    Wrong(
        "budget",
        {"spec.dataset.textField": ""},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.textField: Invalid value: "": spec.dataset.textField in body should match \'^[A-Za-z_][A-Za-z0-9_]{0,62}$\'',
    ),
    Wrong(
        "budget",
        {"spec.dataset.privacyUnit": "User"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.privacyUnit: Unsupported value: "User": supported values: "Record", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.endpoint": "s3.example.com"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.endpoint: Invalid value: "s3.example.com": spec.dataset.storage.endpoint in body should match \'^https?://[^\\s/]+$\'',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.endpoint": "https://s3.example.com/x"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.endpoint: Invalid value: "https://s3.example.com/x": spec.dataset.storage.endpoint in body should match \'^https?://[^\\s/]+$\'',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth": None},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.storage.auth: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth.secretName": "My Secret"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.auth.secretName: Invalid value: "My Secret": spec.dataset.storage.auth.secretName in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\'',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth.type": "Env"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.storage.auth.type: Unsupported value: "Env": supported values: "Secret", "WorkloadIdentity", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.egress": [{"cidr": "everywhere"}]},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.egress[0].cidr: Invalid value: "everywhere": spec.dataset.storage.egress[0].cidr in body should match \'^[0-9a-fA-F.:]{2,39}/[0-9]{1,3}$\'',
    ),
    Wrong(
        "budget",
        {"spec.limit.epsilon": "0"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.epsilon: Invalid value: "0": spec.limit.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.limit.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "budget",
        {"spec.limit.epsilon": "NaN"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.epsilon: Invalid value: "NaN": spec.limit.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.limit.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "budget",
        {"spec.limit.delta": "1"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.delta: Invalid value: "1": spec.limit.delta in body should match \'^([1-9](\\.[0-9]{1,6})?e-[1-9][0-9]?|0\\.[0-9]{0,29}[1-9])$\', spec: Invalid value: "object": spec.limit.delta must be below 1/records, spec.limit.delta: Invalid value: "string": must be a number between 0 and 1 as a string, for example "1e-6"]',
    ),
    Wrong(
        "budget",
        {"spec.limit.delta": "0"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.delta: Invalid value: "0": spec.limit.delta in body should match \'^([1-9](\\.[0-9]{1,6})?e-[1-9][0-9]?|0\\.[0-9]{0,29}[1-9])$\', spec.limit.delta: Invalid value: "string": must be a number between 0 and 1 as a string, for example "1e-6"]',
    ),
    Wrong(
        "budget",
        {"spec.limit.delta": "1e-5"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.limit.delta must be below 1/records',
    ),
    Wrong(
        "budget",
        {"spec.limit.delta": "1e-400"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.delta: Invalid value: "1e-400": spec.limit.delta in body should match \'^([1-9](\\.[0-9]{1,6})?e-[1-9][0-9]?|0\\.[0-9]{0,29}[1-9])$\', spec.limit.delta: Invalid value: "string": must be a number between 0 and 1 as a string, for example "1e-6"]',
    ),
    Wrong(
        "budget",
        {"spec.limit.delta": None},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.delta: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.limit.delta": 1e-06},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.delta: Invalid value: "number": spec.limit.delta in body must be of type string: "number", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.custodian.namespace": None},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.custodian.namespace: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.custodian.namespace": "wrong-manifests"},
        "admission webhook \"validate.palimpsest.dev\" denied the request: spec.allowedNamespaces.names: wrong-manifests is the custodian's namespace and cannot be a tenant's too",
    ),
    Wrong(
        "budget",
        {"spec.custodian.compute": {"maxResources": {"memory": "much"}}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.custodian.compute.maxResources.memory: Invalid value: "much": spec.custodian.compute.maxResources.memory in body should match \'^[0-9]{1,9}(\\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$\', spec.custodian.compute.maxResources[memory]: Invalid value: "string": must be a Kubernetes quantity without a sign, for example 500m or 8Gi]',
    ),
    Wrong(
        "budget",
        {"spec.custodian.compute": {"maxReplicas": 65}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.custodian.compute.maxReplicas: Invalid value: 65: spec.custodian.compute.maxReplicas in body should be less than or equal to 64',
    ),
    Wrong(
        "budget",
        {"spec.custodian.compute": {"nodeLabels": [{"key": "a", "values": []}]}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.custodian.compute.nodeLabels[0].values: Invalid value: 0: spec.custodian.compute.nodeLabels[0].values in body should have at least 1 items',
    ),
    Wrong(
        "budget",
        {
            "spec.custodian.compute": {
                "nodeLabels": [{"key": "a", "values": ["1"]}, {"key": "a", "values": ["2"]}]
            }
        },
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.custodian.compute.nodeLabels[1]: Duplicate value: {"key":"a"}',
    ),
    Wrong(
        "budget",
        {"spec.releases": None},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.releases: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.releases.uri": "s3://private/wrong/out/"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.releases.uri: must not overlap spec.dataset.uri; releases leave custody, private data never does',
    ),
    Wrong(
        "budget",
        {"spec.releases.uri": "s3://private/"},
        "admission webhook \"validate.palimpsest.dev\" denied the request: spec.releases.uri: uri 's3://private/': name a prefix below the bucket, as in s3://private/data/; the journal lies beside it and must stay out of its listing",
    ),
    Wrong(
        "budget",
        {"spec.allowedModels": []},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.allowedModels: Invalid value: 0: spec.allowedModels in body should have at least 1 items',
    ),
    Wrong(
        "budget",
        {"spec.allowedModels": None},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.allowedModels: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.allowedNamespaces": {"selector": {"matchLabels": {}}}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.allowedNamespaces.selector.matchLabels: Invalid value: 0: spec.allowedNamespaces.selector.matchLabels in body should have at least 1 properties',
    ),
    Wrong(
        "budget",
        {"spec.reservationTimeout": "1 day"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.reservationTimeout: Invalid value: "1 day": spec.reservationTimeout in body should match \'^[1-9][0-9]{0,5}[smhd]$\', spec.reservationTimeout: Invalid value: "string": must be a whole number and s, m, h or d, for example 24h]',
    ),
    Wrong(
        "budget",
        {"spec.reservationTimeout": "0s"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.reservationTimeout: Invalid value: "0s": spec.reservationTimeout in body should match \'^[1-9][0-9]{0,5}[smhd]$\', spec.reservationTimeout: Invalid value: "string": must be a whole number and s, m, h or d, for example 24h]',
    ),
    Wrong(
        "budget",
        {"spec.plan": {"trainings": [{"epsilon": "0.00001", "batchSize": 10, "steps": 10}]}},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.plan: no gate can be opened: epsilon: must be at least 0.3',
    ),
    Wrong(
        "budget",
        {"spec.plan": {"histograms": [{"noiseMultiplier": "0"}]}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.plan.histograms[0].noiseMultiplier: Invalid value: "0": spec.plan.histograms[0].noiseMultiplier in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.plan.histograms[0].noiseMultiplier: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "budget",
        {"spec.owner": "me"},
        'PrivacyBudget in version "v1alpha1" cannot be handled as a PrivacyBudget: strict decoding error: unknown field "spec.owner"',
    ),
    Wrong(
        "budget",
        {"spec.limit.epsilon": "0.000001"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.limit: no gate can be opened: limit: epsilon 0.000001 at delta 0.000001 leaves nothing to spend at any order up to 256; raise epsilon',
    ),
    Wrong(
        "budget",
        {"spec.limit.epsilon": "8.0000000000000001"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.limit.epsilon: Invalid value: "8.0000000000000001": spec.limit.epsilon in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.limit.epsilon: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.limit.epsilon": "9"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.limit.epsilon may only be lowered',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.limit.delta": "1e-7"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.limit.delta is immutable: every charge was accounted at it',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.dataset.records": 180001},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.dataset is immutable: make another PrivacyBudget',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.dataset.uri": "s3://other/x/"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.dataset is immutable: make another PrivacyBudget',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.dataset.textField": "question"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.dataset is immutable: make another PrivacyBudget',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.plan": {"histograms": [{"noiseMultiplier": "10"}]}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.plan is immutable: make another PrivacyBudget',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.sampling.count": 0},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.sampling.count: Invalid value: 0: spec.sampling.count in body should be greater than or equal to 1, spec: Invalid value: "object": spec.resampling.size is larger than spec.sampling.count: the pool must hold at least as many instructions as are selected from it, spec: Invalid value: "object": spec.resampling.clusters is larger than spec.sampling.count: k-means needs at least one instruction a cluster]',
    ),
    Wrong(
        "dataset",
        {"spec.sampling.count": 20000000},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.sampling.count: Invalid value: 20000000: spec.sampling.count in body should be less than or equal to 10000000',
    ),
    Wrong(
        "dataset",
        {"spec.sampling.count": None},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.sampling.count: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {"spec.sampling.shards": 65},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.sampling.shards: Invalid value: 65: spec.sampling.shards in body should be less than or equal to 64',
    ),
    Wrong(
        "dataset",
        {"spec.sampling.temperature": "0"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.sampling.temperature: Invalid value: "0": spec.sampling.temperature in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.sampling.temperature: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "dataset",
        {"spec.sampling.topP": "1.5"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.sampling.topP: Invalid value: "1.5": spec.sampling.topP in body should match \'^(0\\.[0-9]{0,11}[1-9]|1(\\.0{1,12})?)$\', spec.sampling.topP: Invalid value: "string": must be a decimal above 0 and at most 1 as a string, for example "0.95"]',
    ),
    Wrong(
        "dataset",
        {"spec.sampling.topP": "0"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.sampling.topP: Invalid value: "0": spec.sampling.topP in body should match \'^(0\\.[0-9]{0,11}[1-9]|1(\\.0{1,12})?)$\', spec.sampling.topP: Invalid value: "string": must be a decimal above 0 and at most 1 as a string, for example "0.95"]',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.size": 3001},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.resampling.size is larger than spec.sampling.count: the pool must hold at least as many instructions as are selected from it',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.size": 0},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.resampling.size: Invalid value: 0: spec.resampling.size in body should be greater than or equal to 1',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.clusters": 1},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.resampling.clusters: Invalid value: 1: spec.resampling.clusters in body should be greater than or equal to 2',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.clusters": 3001},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.resampling.clusters is larger than spec.sampling.count: k-means needs at least one instruction a cluster',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.noiseMultiplier": "0"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.resampling.noiseMultiplier: Invalid value: "0": spec.resampling.noiseMultiplier in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.resampling.noiseMultiplier: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.noiseMultiplier": "NaN"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.resampling.noiseMultiplier: Invalid value: "NaN": spec.resampling.noiseMultiplier in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.resampling.noiseMultiplier: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.noiseMultiplier": "0.1"},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.resampling.noiseMultiplier: 0.1 does not fit: the noise multiplier must be at least 2.20 (needs 4826% of the gate of PrivacyBudget "wrong-terms", 10% is left)',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.embedder": None},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.resampling.embedder: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {
            "spec.resampling.embedder.digest": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
        },
        'admission webhook "validate.palimpsest.dev" denied the request: spec.resampling.embedder: s3://models/embedder/ is not one of the allowedModels of PrivacyBudget "wrong-terms" (URI and digest must both agree)',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": None},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation: Invalid value: "object": annotation takes exactly one of model, endpoint and human: what answers the instructions',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.endpoint": ENDPOINT},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation: Invalid value: "object": annotation takes exactly one of model, endpoint and human: what answers the instructions',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "baseURL": "ftp://api.example.com/v1"},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.baseURL: Invalid value: "ftp://api.example.com/v1": spec.annotation.endpoint.baseURL in body should match \'^https?://[A-Za-z0-9._:\\[\\]-]+(/[A-Za-z0-9._~%-]+)*/?$\', spec.annotation.endpoint.baseURL: Invalid value: "string": must be http:// or https://, host, port and path, without a user, a key or a query, for example https://api.example.com/v1]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {
                **ENDPOINT,
                "baseURL": "https://me:key@api.example.com/v1",
            },
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.baseURL: Invalid value: "https://me:key@api.example.com/v1": spec.annotation.endpoint.baseURL in body should match \'^https?://[A-Za-z0-9._:\\[\\]-]+(/[A-Za-z0-9._~%-]+)*/?$\', spec.annotation.endpoint.baseURL: Invalid value: "string": must be http:// or https://, host, port and path, without a user, a key or a query, for example https://api.example.com/v1]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "baseURL": "https://api.example.com/v1?key=k"},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.baseURL: Invalid value: "https://api.example.com/v1?key=k": spec.annotation.endpoint.baseURL in body should match \'^https?://[A-Za-z0-9._:\\[\\]-]+(/[A-Za-z0-9._~%-]+)*/?$\', spec.annotation.endpoint.baseURL: Invalid value: "string": must be http:// or https://, host, port and path, without a user, a key or a query, for example https://api.example.com/v1]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {"baseURL": "https://api.example.com/v1"},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.model: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "model": "large 1"},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.model: Invalid value: "large 1": spec.annotation.endpoint.model in body should match \'^[!-~]+$\', spec.annotation.endpoint.model: Invalid value: "string": must be the endpoint\'s name of a model, without spaces]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "secretName": "API_KEY"},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.endpoint.secretName: Invalid value: "API_KEY": spec.annotation.endpoint.secretName in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\'',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": None, "spec.annotation.endpoint": {**ENDPOINT, "apiKey": "sk-1"}},
        'SyntheticDataset in version "v1alpha1" cannot be handled as a SyntheticDataset: strict decoding error: unknown field "spec.annotation.endpoint.apiKey"',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "caBundle": "none"},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.caBundle: Invalid value: "none": spec.annotation.endpoint.caBundle in body should match \'^-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s-]*-----END CERTIFICATE-----\\s*$\', spec.annotation.endpoint.caBundle: Invalid value: "string": must be PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {
                **ENDPOINT,
                "caBundle": "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----",
            },
        },
        'admission webhook "validate.palimpsest.dev" denied the request: spec.annotation.endpoint.caBundle: no certificate that can be read; give PEM',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": None, "spec.annotation.endpoint": {**ENDPOINT, "concurrency": 0}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.endpoint.concurrency: Invalid value: 0: spec.annotation.endpoint.concurrency in body should be greater than or equal to 1',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "concurrency": 257},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.endpoint.concurrency: Invalid value: 257: spec.annotation.endpoint.concurrency in body should be less than or equal to 256',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "requestsPerMinute": 0},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.endpoint.requestsPerMinute: Invalid value: 0: spec.annotation.endpoint.requestsPerMinute in body should be greater than or equal to 1',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "timeoutSeconds": 901},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.endpoint: Invalid value: "object": patienceSeconds must be at least timeoutSeconds: one request may take that long',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "prices": {"input": "0.15"}},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.prices.output: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.endpoint": {**ENDPOINT, "prices": {"input": "free", "output": "1"}},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.endpoint.prices.input: Invalid value: "free": spec.annotation.endpoint.prices.input in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.annotation.endpoint.prices.input: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.human": {}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation: Invalid value: "object": annotation takes exactly one of model, endpoint and human: what answers the instructions',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": None,
            "spec.annotation.human": {"answers": {"uri": "s3://outputs/a.jsonl"}},
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.human.answers.digest: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": None, "spec.annotation.human": {}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.annotation is immutable, but for human.answers, which may be set once: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.annotation.answers": 0},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.answers: Invalid value: 0: spec.annotation.answers in body should be greater than or equal to 1',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.answers": 17},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.answers: Invalid value: 17: spec.annotation.answers in body should be less than or equal to 16',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.temperature": "0"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.temperature: Invalid value: "0": spec.annotation.temperature in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.annotation.temperature: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.topP": "1.5"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.topP: Invalid value: "1.5": spec.annotation.topP in body should match \'^(0\\.[0-9]{0,11}[1-9]|1(\\.0{1,12})?)$\', spec.annotation.topP: Invalid value: "string": must be a decimal above 0 and at most 1 as a string, for example "0.95"]',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.answers": 2},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.annotation is immutable, but for human.answers, which may be set once: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": None, "spec.annotation.endpoint": ENDPOINT},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.annotation is immutable, but for human.answers, which may be set once: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.annotation.systemPrompt": "x" * 2049},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.systemPrompt: Too long: may not be more than 2048 bytes, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {"spec.output": None},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.output: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {"spec.output.uri": "s3://outputs/questions"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.output.uri: Invalid value: "s3://outputs/questions": spec.output.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.output.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end]',
    ),
    Wrong(
        "dataset",
        {"spec.output.storage.endpoint": "ftp://x"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.output.storage.endpoint: Invalid value: "ftp://x": spec.output.storage.endpoint in body should match \'^https?://[^\\s/]+$\'',
    ),
    Wrong(
        "dataset",
        {"spec.generatorRef": None},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.generatorRef: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {"spec.generatorRef.name": "a/b"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.generatorRef.name: Invalid value: "a/b": spec.generatorRef.name in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\'',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"histogram": {"imagePullSecrets": ["x"]}}},
        'SyntheticDataset in version "v1alpha1" cannot be handled as a SyntheticDataset: strict decoding error: unknown field "spec.compute.histogram.imagePullSecrets"',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"histogram": {"nodeSelector": {"pool": "cpu"}}}},
        'admission webhook "validate.palimpsest.dev" denied the request: spec.compute.histogram.nodeSelector: pool=cpu is not among the node labels that the custodian lists (pool=gpu; custodian.compute.nodeLabels of the budget)',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"default": {"queueName": "Q!"}}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.default.queueName: Invalid value: "Q!": spec.compute.default.queueName in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\'',
    ),
    Wrong(
        "dataset",
        {"spec.filter": True},
        'SyntheticDataset in version "v1alpha1" cannot be handled as a SyntheticDataset: strict decoding error: unknown field "spec.filter"',
    ),
    Wrong(
        "dataset",
        {"spec.sampling.count": 4000},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.sampling is immutable: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.resampling": None},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.resampling is immutable: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.annotation": None},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.annotation is immutable, but for human.answers, which may be set once: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.output.uri": "s3://outputs/elsewhere/"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.output is immutable: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "dataset",
        {"spec.generatorRef.name": "other"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.generatorRef is immutable: make another SyntheticDataset',
        later=True,
    ),
    Wrong(
        "alignment",
        {"spec.method": "PPO"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.method: Unsupported value: "PPO": supported values: "SFT", "DPO", "RLHF", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "alignment",
        {"spec.datasetRef": None},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.datasetRef: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel": None},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.baseModel: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "alignment",
        {"spec.sft": {"epochs": 0}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.sft.epochs: Invalid value: 0: spec.sft.epochs in body should be greater than or equal to 1',
    ),
    Wrong(
        "alignment",
        {"spec.sft": {"learningRate": "1e-4"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.sft.learningRate: Invalid value: "1e-4": spec.sft.learningRate in body should match \'^(0\\.[0-9]{0,11}[1-9]|[1-9][0-9]{0,5}(\\.[0-9]{1,12})?)$\', spec.sft.learningRate: Invalid value: "string": must be a decimal above 0 as a string, for example "3" or "0.5"]',
    ),
    Wrong(
        "alignment",
        {"spec.sft": {"loraRank": 1000}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.sft.loraRank: Invalid value: 1000: spec.sft.loraRank in body should be less than or equal to 256',
    ),
    Wrong(
        "alignment",
        {"spec.sft": {"tuning": "Full"}, "spec.merge": False},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.merge is false, but spec.sft.tuning Full trains no adapters that could be published alone: remove merge, or take tuning LoRA',
    ),
    Wrong(
        "alignment",
        {"spec.sft": {"checkpointInterval": 0}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.sft.checkpointInterval: Invalid value: 0: spec.sft.checkpointInterval in body should be greater than or equal to 1',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.prompts": "s3://models/"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.evaluation.prompts: Invalid value: "s3://models/": spec.evaluation.prompts in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*[A-Za-z0-9._=+-]+$\', spec.evaluation.prompts: Invalid value: "string": must be s3://bucket/path/to/file without a slash at the end]',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.prompts": "/etc/passwd"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.evaluation.prompts: Invalid value: "/etc/passwd": spec.evaluation.prompts in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*[A-Za-z0-9._=+-]+$\', spec.evaluation.prompts: Invalid value: "string": must be s3://bucket/path/to/file without a slash at the end]',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.digest": None},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.evaluation.digest: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.count": 0},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.evaluation.count: Invalid value: 0: spec.evaluation.count in body should be greater than or equal to 1',
    ),
    Wrong(
        "alignment",
        {"spec.output": None},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.output: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "alignment",
        {"spec.compute": {"command": ["sh"]}},
        'AlignmentRun in version "v1alpha1" cannot be handled as a AlignmentRun: strict decoding error: unknown field "spec.compute.command"',
    ),
    Wrong(
        "alignment",
        {"spec.reward": {"builtIn": "Informative"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.reward goes with the other methods: remove it, method SFT learns from answers as they are',
    ),
    Wrong(
        "alignment",
        {"spec.dpo": {"beta": "0.2"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.dpo goes with method DPO: remove it, or set spec.method: DPO',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "DPO",
            "spec.reward": {"builtIn": "Informative"},
            "spec.sft": {"epochs": 2},
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.sft goes with method SFT: remove it, or set spec.method: SFT',
    ),
    Wrong(
        "alignment",
        {"spec.method": "DPO"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": method DPO takes either spec.reward, which ranks the data set\'s answers, or spec.dpo.preferences, which are ranked already',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "DPO",
            "spec.reward": {"builtIn": "Informative"},
            "spec.dpo": {"preferences": {"uri": "s3://models/pairs.jsonl", "digest": DIGEST}},
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": method DPO takes either spec.reward, which ranks the data set\'s answers, or spec.dpo.preferences, which are ranked already',
    ),
    Wrong(
        "alignment",
        {"spec.method": "RLHF"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": method RLHF needs spec.reward: what the policy learns to earn',
    ),
    Wrong(
        "alignment",
        {"spec.rlhf": {"steps": 9}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.rlhf goes with method RLHF: remove it, or set spec.method: RLHF',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "RLHF",
            "spec.reward": {"builtIn": "OnTopic"},
            "spec.rlhf": {"completionsPerPrompt": 1},
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.rlhf.completionsPerPrompt: Invalid value: 1: spec.rlhf.completionsPerPrompt in body should be greater than or equal to 2',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "RLHF",
            "spec.reward": {"builtIn": "OnTopic"},
            "spec.evaluation.judge": {"builtIn": "OnTopic"},
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.evaluation.judge is the same as spec.reward: a model that was trained by it wins by it, take another',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "RLHF",
            "spec.reward": {"model": {"uri": "s3://models/a/", "digest": DIGEST}},
            "spec.evaluation.judge": {"model": {"uri": "s3://models/b/", "digest": DIGEST}},
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.evaluation.judge is the same as spec.reward: a model that was trained by it wins by it, take another',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "RLHF",
            "spec.reward": {"builtIn": "OnTopic", "trained": {"preferences": PAIRS}},
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.reward: Invalid value: "object": takes exactly one of model, builtIn, endpoint and trained',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "RLHF",
            "spec.reward": {"trained": {"preferences": PAIRS, "heldOutShare": "0"}},
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.reward.trained.heldOutShare: Invalid value: "0": spec.reward.trained.heldOutShare in body should match \'^(0\\.[0-9]{0,11}[1-9]|1(\\.0{1,12})?)$\', spec.reward.trained.heldOutShare: Invalid value: "string": must be a decimal above 0 and at most 1 as a string, for example "0.95"]',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.judge": {"trained": {"preferences": PAIRS}}},
        'AlignmentRun in version "v1alpha1" cannot be handled as a AlignmentRun: strict decoding error: unknown field "spec.evaluation.judge.trained"',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.judge": {"endpoint": ENDPOINT, "builtIn": "OnTopic"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.evaluation.judge: Invalid value: "object": takes exactly one of model, builtIn and endpoint',
    ),
    Wrong(
        "alignment",
        {
            "spec.evaluation.judge": {
                "endpoint": ENDPOINT | {"timeoutSeconds": 60, "patienceSeconds": 30}
            }
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.evaluation.judge.endpoint: Invalid value: "object": patienceSeconds must be at least timeoutSeconds: one request may take that long',
    ),
    Wrong(
        "alignment",
        {"spec.method": "RLHF", "spec.reward": {"endpoint": ENDPOINT}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.reward.endpoint ranks answers for method DPO: RLHF asks for a number at every step, take reward.model or reward.trained',
    ),
    Wrong(
        "alignment",
        {
            "spec.method": "DPO",
            "spec.reward": {"endpoint": ENDPOINT},
            "spec.evaluation.judge": {
                "endpoint": {**ENDPOINT, "baseURL": "https://API.example.com/v1/"}
            },
        },
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.evaluation.judge is the same as spec.reward: a model that was trained by it wins by it, take another',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.gates": {"minWinRate": "0.5"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.evaluation: Invalid value: "object": gates.minWinRate needs judge: what tells whose answer is better',
    ),
    Wrong(
        "alignment",
        {"spec.evaluation.gates": {"maxNLLIncrease": "-1"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.evaluation.gates.maxNLLIncrease: Invalid value: "-1": spec.evaluation.gates.maxNLLIncrease in body should match \'^0(\\.[0-9]{0,11}[1-9])?$\', spec.evaluation.gates.maxNLLIncrease: Invalid value: "string": must be 0 or a decimal below 1 as a string, for example "0.9"]',
    ),
    Wrong(
        "alignment",
        {"spec.method": "DPO", "spec.reward": {}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.reward: Invalid value: "object": takes exactly one of model, builtIn, endpoint and trained',
    ),
    Wrong(
        "alignment",
        {"spec.method": "DPO", "spec.reward": {"builtIn": "Length"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.reward.builtIn: Unsupported value: "Length": supported values: "Informative", "OnTopic", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "alignment",
        {"spec.method": "DPO", "spec.reward": {"builtIn": "OnTopic"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec: Invalid value: "object": spec.method is immutable: make another AlignmentRun, spec: Invalid value: "object": spec.reward is immutable: make another AlignmentRun]',
        later=True,
    ),
    Wrong(
        "alignment",
        {"spec.merge": False},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.merge is immutable: make another AlignmentRun',
        later=True,
    ),
    Wrong(
        "alignment",
        {"spec.datasetRef.name": "other"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.datasetRef is immutable: make another AlignmentRun',
        later=True,
    ),
    Wrong(
        "alignment",
        {"spec.evaluation": None},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.evaluation is immutable: make another AlignmentRun',
        later=True,
    ),
    Wrong(
        "alignment",
        {"spec.output.uri": "s3://outputs/else/"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.output is immutable: make another AlignmentRun',
        later=True,
    ),
    Wrong(
        "alignment",
        {"spec.sft": {"epochs": 2}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.sft is immutable: make another AlignmentRun',
        later=True,
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth": {}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.auth: Invalid value: "object": secretName is required: the Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set type: WorkloadIdentity',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth": {"type": "WorkloadIdentity"}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.auth: Invalid value: "object": roleArn is required with type WorkloadIdentity: the role that the pods\' service account may assume',
    ),
    Wrong(
        "budget",
        {
            "spec.dataset.storage.auth": {
                "type": "WorkloadIdentity",
                "secretName": "keys",
                "roleArn": "arn:aws:iam::1:role/r",
            }
        },
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.auth: Invalid value: "object": secretName goes with type Secret: remove it, a workload identity has no keys',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth": {"secretName": "keys", "roleArn": "arn:aws:iam::1:role/r"}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.auth: Invalid value: "object": roleArn, audience and tokenEndpoint go with type WorkloadIdentity: set it, or remove them',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth": {"type": "WorkloadIdentity", "roleArn": "private-data"}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.storage.auth.roleArn: Invalid value: "private-data": spec.dataset.storage.auth.roleArn in body should match \'^arn:[a-z0-9-]+:iam:[a-z0-9-]*:[A-Za-z0-9-]*:role/[A-Za-z0-9+=,.@_/-]{1,256}$\', spec.dataset.storage.auth.roleArn: Invalid value: "string": must be a role\'s ARN, for example arn:aws:iam::123456789012:role/private-data]',
    ),
    Wrong(
        "budget",
        {
            "spec.dataset.storage.auth": {
                "type": "WorkloadIdentity",
                "roleArn": "arn:aws:iam::1:role/r",
                "audience": "https://kubernetes.default.svc",
            }
        },
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.auth.audience: Invalid value: "string": must not be the API server\'s own: such a token would enter the cluster',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.auth": {"type": "Keys", "secretName": "keys"}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.storage.auth.type: Unsupported value: "Keys": supported values: "Secret", "WorkloadIdentity", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.caBundle": "my-ca"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.dataset.storage.caBundle: Invalid value: "my-ca": spec.dataset.storage.caBundle in body should match \'^-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s-]*-----END CERTIFICATE-----\\s*$\', spec.dataset.storage.caBundle: Invalid value: "string": must be PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----]',
    ),
    Wrong(
        "budget",
        {
            "spec.dataset.storage.caBundle": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        },
        'admission webhook "validate.palimpsest.dev" denied the request: spec.dataset.storage.caBundle: no certificate that can be read; give PEM',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.sse": {"type": "KMS"}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.sse: Invalid value: "object": keyId goes with type KMS, and only with it',
    ),
    Wrong(
        "budget",
        {"spec.dataset.storage.sse": {"type": "AES256", "keyId": "k"}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.dataset.storage.sse: Invalid value: "object": keyId goes with type KMS, and only with it',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.uri": "hf://acme/tiny"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.baseModel.uri: Invalid value: "hf://acme/tiny": spec.baseModel.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.baseModel.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way to a hub or a claim; bring the model into the store with `palimpsest model push`]',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.uri": "pvc://models/tiny/"},
        'PrivateGenerator.palimpsest.dev "wrong" is invalid: [spec.baseModel.uri: Invalid value: "pvc://models/tiny/": spec.baseModel.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.baseModel.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way to a hub or a claim; bring the model into the store with `palimpsest model push`]',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.revision": COMMIT},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.baseModel.revision"',
    ),
    Wrong(
        "generator",
        {"spec.baseModel.chatTemplate": "{{ messages }}"},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.baseModel.chatTemplate"',
    ),
    Wrong(
        "budget",
        {"spec.allowedModels.0.uri": "hf://acme/tiny"},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.allowedModels[0].uri: Invalid value: "hf://acme/tiny": spec.allowedModels[0].uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.allowedModels[0].uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way to a hub or a claim; bring the model into the store with `palimpsest model push`]',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.embedder.uri": "hf://acme/tiny"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.resampling.embedder.uri: Invalid value: "hf://acme/tiny": spec.resampling.embedder.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.resampling.embedder.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way to a hub or a claim; bring the model into the store with `palimpsest model push`]',
    ),
    Wrong(
        "dataset",
        {"spec.resampling.embedder.uri": "pvc://models/tiny/"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.resampling.embedder.uri: Invalid value: "pvc://models/tiny/": spec.resampling.embedder.uri in body should match \'^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$\', spec.resampling.embedder.uri: Invalid value: "string": must be s3://bucket/prefix/ with a slash at the end: beside private data there is no way to a hub or a claim; bring the model into the store with `palimpsest model push`]',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"cache": {"claimName": "models"}}},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.compute.cache"',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"histogram": {"cache": {"claimName": "models"}}}},
        'SyntheticDataset in version "v1alpha1" cannot be handled as a SyntheticDataset: strict decoding error: unknown field "spec.compute.histogram.cache"',
    ),
    Wrong(
        "budget",
        {"spec.custodian.compute": {"cache": {"hostPath": "/var/cache/models"}}},
        'PrivacyBudget in version "v1alpha1" cannot be handled as a PrivacyBudget: strict decoding error: unknown field "spec.custodian.compute.cache.hostPath"',
    ),
    Wrong(
        "budget",
        {"spec.custodian.compute": {"cache": {}}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: [spec.custodian.compute.cache.claimName: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "budget",
        {"spec.custodian.compute": {"cache": {"claimName": "Models"}}},
        'PrivacyBudget.palimpsest.dev "wrong" is invalid: spec.custodian.compute.cache.claimName: Invalid value: "Models": spec.custodian.compute.cache.claimName in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\'',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"default": {"cache": {}}}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.default.cache: Invalid value: "object": cache takes either claimName or hostPath',
    ),
    Wrong(
        "dataset",
        {
            "spec.compute": {
                "default": {"cache": {"claimName": "models", "hostPath": "/var/cache/models"}}
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.default.cache: Invalid value: "object": cache takes either claimName or hostPath',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"default": {"cache": {"hostPath": "var/cache"}}}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.compute.default.cache.hostPath: Invalid value: "var/cache": spec.compute.default.cache.hostPath in body should match \'^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$\', spec.compute.default.cache.hostPath: Invalid value: "string": must be an absolute path without a slash at the end, . or ..]',
    ),
    Wrong(
        "alignment",
        {"spec.compute": {"cache": {"hostPath": "/var/../etc"}}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.compute.cache.hostPath: Invalid value: "/var/../etc": spec.compute.cache.hostPath in body should match \'^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$\', spec.compute.cache.hostPath: Invalid value: "string": must be an absolute path without a slash at the end, . or ..]',
    ),
    Wrong(
        "alignment",
        {"spec.compute": {"cache": {"hostPath": "/"}}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.compute.cache.hostPath: Invalid value: "/": spec.compute.cache.hostPath in body should match \'^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$\', spec.compute.cache.hostPath: Invalid value: "string": must be an absolute path without a slash at the end, . or ..]',
    ),
    Wrong(
        "alignment",
        {"spec.compute": {"cache": {"claimName": ""}}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.compute.cache.claimName: Invalid value: "": spec.compute.cache.claimName in body should be at least 1 chars long',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": {"uri": "hf://tiny", "revision": COMMIT, "digest": DIGEST}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.model.uri: Invalid value: "hf://tiny": spec.annotation.model.uri in body should match \'(^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$|^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$|^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/([A-Za-z0-9_=+-][A-Za-z0-9._=+-]*/)*$)\', spec.annotation.model.uri: Invalid value: "string": must be s3://bucket/prefix/, hf://organisation/name or pvc://claim/path/ (a slash ends the first and the last)]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": {
                "uri": "hf://acme/tiny/main",
                "revision": COMMIT,
                "digest": DIGEST,
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.model.uri: Invalid value: "hf://acme/tiny/main": spec.annotation.model.uri in body should match \'(^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$|^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$|^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/([A-Za-z0-9_=+-][A-Za-z0-9._=+-]*/)*$)\', spec.annotation.model.uri: Invalid value: "string": must be s3://bucket/prefix/, hf://organisation/name or pvc://claim/path/ (a slash ends the first and the last)]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": {
                "uri": "https://huggingface.co/acme/tiny",
                "revision": COMMIT,
                "digest": DIGEST,
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.model.uri: Invalid value: "https://huggingface.co/acme/tiny": spec.annotation.model.uri in body should match \'(^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$|^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$|^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/([A-Za-z0-9_=+-][A-Za-z0-9._=+-]*/)*$)\', spec.annotation.model: Invalid value: "object": revision goes with hf://, and hf:// with it: the commit to fetch, spec.annotation.model.uri: Invalid value: "string": must be s3://bucket/prefix/, hf://organisation/name or pvc://claim/path/ (a slash ends the first and the last)]',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": {"uri": "hf://acme/tiny", "digest": DIGEST}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.model: Invalid value: "object": revision goes with hf://, and hf:// with it: the commit to fetch',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": {"uri": "hf://acme/tiny", "revision": "main", "digest": DIGEST}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.model.revision: Invalid value: "main": spec.annotation.model.revision in body should match \'^[0-9a-f]{40}$\', spec.annotation.model.revision: Invalid value: "string": must be a commit, 40 lower-case hexadecimal digits; branches and tags move]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": {
                "uri": "hf://acme/tiny",
                "revision": COMMIT,
                "digest": "latest",
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.model.digest: Invalid value: "latest": spec.annotation.model.digest in body should match \'^sha256:[0-9a-f]{64}$\', spec.annotation.model.digest: Invalid value: "string": must be sha256: and 64 lower-case hexadecimal digits]',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model": {"uri": "hf://acme/tiny", "revision": COMMIT}},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.annotation.model.digest: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {
            "spec.annotation.model": {
                "uri": "hf://acme/tiny",
                "revision": COMMIT,
                "digest": DIGEST,
                "storage": {"endpoint": "http://127.0.0.1:9000", "auth": {"secretName": "store"}},
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.model: Invalid value: "object": storage goes with s3:// only: it is where the model lies, if not beside the output',
    ),
    Wrong(
        "dataset",
        {"spec.annotation.model.tokenSecretName": "hub"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.annotation.model: Invalid value: "object": tokenSecretName goes with hf:// only',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel": {"uri": "pvc://models", "digest": DIGEST}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.baseModel.uri: Invalid value: "pvc://models": spec.baseModel.uri in body should match \'(^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$|^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$|^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/([A-Za-z0-9_=+-][A-Za-z0-9._=+-]*/)*$)\', spec.baseModel.uri: Invalid value: "string": must be s3://bucket/prefix/, hf://organisation/name or pvc://claim/path/ (a slash ends the first and the last)]',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel": {"uri": "pvc://models/../etc/", "digest": DIGEST}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.baseModel.uri: Invalid value: "pvc://models/../etc/": spec.baseModel.uri in body should match \'(^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$|^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$|^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/([A-Za-z0-9_=+-][A-Za-z0-9._=+-]*/)*$)\', spec.baseModel.uri: Invalid value: "string": must be s3://bucket/prefix/, hf://organisation/name or pvc://claim/path/ (a slash ends the first and the last)]',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel": {"uri": "pvc://models/tiny", "digest": DIGEST}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.baseModel.uri: Invalid value: "pvc://models/tiny": spec.baseModel.uri in body should match \'(^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._=+-]+/)*$|^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$|^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/([A-Za-z0-9_=+-][A-Za-z0-9._=+-]*/)*$)\', spec.baseModel.uri: Invalid value: "string": must be s3://bucket/prefix/, hf://organisation/name or pvc://claim/path/ (a slash ends the first and the last)]',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel": {"uri": "pvc://models/tiny/", "revision": COMMIT, "digest": DIGEST}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.baseModel: Invalid value: "object": revision goes with hf://, and hf:// with it: the commit to fetch',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel.revision": COMMIT},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.baseModel: Invalid value: "object": revision goes with hf://, and hf:// with it: the commit to fetch',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel.chatTemplate": ""},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.baseModel.chatTemplate: Invalid value: "": spec.baseModel.chatTemplate in body should be at least 1 chars long',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel.chatTemplate": "x" * 16385},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: [spec.baseModel.chatTemplate: Too long: may not be more than 16384 bytes, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel.trustRemoteCode": True},
        'AlignmentRun in version "v1alpha1" cannot be handled as a AlignmentRun: strict decoding error: unknown field "spec.baseModel.trustRemoteCode"',
    ),
    Wrong(
        "generator",
        {
            "spec.compute": {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "zone", "operator": "In", "values": ["a"]}
                                    ]
                                }
                            ]
                        }
                    }
                }
            }
        },
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.compute.affinity"',
    ),
    Wrong(
        "generator",
        {"spec.compute": {"schedulerName": "mine"}},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.compute.schedulerName"',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"histogram": {"schedulerName": "mine"}}},
        'SyntheticDataset in version "v1alpha1" cannot be handled as a SyntheticDataset: strict decoding error: unknown field "spec.compute.histogram.schedulerName"',
    ),
    Wrong(
        "budget",
        {
            "spec.custodian.compute": {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "zone", "operator": "In", "values": ["a"]}
                                    ]
                                }
                            ]
                        }
                    }
                }
            }
        },
        'PrivacyBudget in version "v1alpha1" cannot be handled as a PrivacyBudget: strict decoding error: unknown field "spec.custodian.compute.affinity"',
    ),
    Wrong(
        "dataset",
        {
            "spec.compute": {
                "sample": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": []
                            }
                        }
                    }
                }
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.sample.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: 0: spec.compute.sample.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms in body should have at least 1 items',
    ),
    Wrong(
        "dataset",
        {
            "spec.compute": {
                "sample": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {
                                        "matchExpressions": [
                                            {"key": "zone", "operator": "In", "values": []}
                                        ]
                                    }
                                ]
                            }
                        }
                    }
                }
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.sample.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]: Invalid value: "object": values go with operator In and NotIn, at least one, and with no other',
    ),
    Wrong(
        "dataset",
        {
            "spec.compute": {
                "sample": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {
                                        "matchExpressions": [
                                            {"key": "zone", "operator": "Exists", "values": ["a"]}
                                        ]
                                    }
                                ]
                            }
                        }
                    }
                }
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.sample.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]: Invalid value: "object": values go with operator In and NotIn, at least one, and with no other',
    ),
    Wrong(
        "dataset",
        {
            "spec.compute": {
                "sample": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {
                                        "matchExpressions": [
                                            {"key": "zone", "operator": "Gt", "values": ["a"]}
                                        ]
                                    }
                                ]
                            }
                        }
                    }
                }
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.compute.sample.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Unsupported value: "Gt": supported values: "In", "NotIn", "Exists", "DoesNotExist", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "dataset",
        {"spec.compute": {"sample": {"affinity": {"podAffinity": {}}}}},
        'SyntheticDataset in version "v1alpha1" cannot be handled as a SyntheticDataset: strict decoding error: unknown field "spec.compute.sample.affinity.podAffinity"',
    ),
    Wrong(
        "dataset",
        {
            "spec.compute": {
                "sample": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 0}]}
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.sample.topologySpreadConstraints[0].maxSkew: Invalid value: 0: spec.compute.sample.topologySpreadConstraints[0].maxSkew in body should be greater than or equal to 1',
    ),
    Wrong(
        "dataset",
        {
            "spec.compute": {
                "sample": {
                    "topologySpreadConstraints": [{"topologyKey": "zone"}, {"topologyKey": "zone"}]
                }
            }
        },
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: spec.compute.sample.topologySpreadConstraints[1]: Duplicate value: {"topologyKey":"zone"}',
    ),
    Wrong(
        "alignment",
        {"spec.compute": {"schedulerName": "My Scheduler"}},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec.compute.schedulerName: Invalid value: "My Scheduler": spec.compute.schedulerName in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\'',
    ),
    Wrong(
        "dataset",
        {"spec.retainIntermediates": "no"},
        'SyntheticDataset.palimpsest.dev "wrong" is invalid: [spec.retainIntermediates: Invalid value: "string": spec.retainIntermediates in body must be of type boolean: "string", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]',
    ),
    Wrong(
        "generator",
        {"spec.retainIntermediates": False},
        'PrivateGenerator in version "v1alpha1" cannot be handled as a PrivateGenerator: strict decoding error: unknown field "spec.retainIntermediates"',
    ),
    Wrong(
        "alignment",
        {"spec.baseModel.chatTemplate": "{{ messages }}"},
        'AlignmentRun.palimpsest.dev "wrong" is invalid: spec: Invalid value: "object": spec.baseModel is immutable: make another AlignmentRun',
        later=True,
    ),
)
