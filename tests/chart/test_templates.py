"""The chart as helm renders it, without a cluster."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import toolchain
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from palimpsest.api.config import parse_config
from palimpsest.api.crd import RESOURCES, render
from palimpsest.telemetry.traces import ENDPOINT_VARIABLE, RATIO_VARIABLE

CHART = Path(__file__).parents[2] / "charts" / "palimpsest"
OPERATOR = "registry.example/palimpsest-operator@sha256:" + "1" * 64
STAGE = "registry.example/palimpsest-stage@sha256:" + "2" * 64
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
Json = dict[str, Any]


def values(**more: Any) -> Json:
    return {
        "images": {"operator": OPERATOR, "stage": STAGE},
        "stores": [
            {"endpoint": "http://10.0.0.9:9000", "secretName": "store-a", "pathStyle": False},
            {"endpoint": "https://s3.example.com", "secretName": "store-b", "region": "eu-1"},
        ],
        "custody": {
            "namespaces": [
                {"name": "custody", "egress": [{"cidr": "10.0.0.9/32", "ports": [9000]}]}
            ]
        },
        **more,
    }


def helm(given: Json, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [str(toolchain.tools() / "helm"), *arguments, "--values", "-"]
    return subprocess.run(
        program, input=json.dumps(given), capture_output=True, text=True, check=False
    )


def template(given: Json) -> subprocess.CompletedProcess[str]:
    return helm(
        given,
        *("template", "palimpsest", str(CHART)),
        *("--namespace", "system", "--kube-version", "1.34.4"),
    )


def rendered(given: Json) -> list[Json]:
    done = template(given)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pick(documents: list[Json], kind: str, name: str, namespace: str | None = None) -> Json:
    found = [
        each
        for each in documents
        if each["kind"] == kind
        and each["metadata"]["name"] == name
        and namespace in (None, each["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{kind}/{name}: {len(found)}"
    return found[0]


def test_lint_finds_nothing() -> None:
    done = helm(values(), "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_definitions_are_the_generated_ones(resource: Any) -> None:
    copy = CHART / "files" / "crds" / f"{resource.plural}.yaml"
    assert copy.read_text() == render(resource), "run `make crds`"
    name = f"{resource.plural}.palimpsest.dev"
    found = pick(rendered(values()), "CustomResourceDefinition", name)
    assert found["spec"] == yaml.safe_load(render(resource))["spec"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_definitions_can_be_left_out_or_given_up() -> None:
    kinds = {each["kind"] for each in rendered(values(crds={"enabled": False}))}
    assert "CustomResourceDefinition" not in kinds
    loose = rendered(values(crds={"keep": False}))
    definition = pick(loose, "CustomResourceDefinition", "privacybudgets.palimpsest.dev")
    assert "annotations" not in definition["metadata"]


def test_the_operator_reads_the_configuration_it_is_given() -> None:
    config_map = pick(rendered(values()), "ConfigMap", "palimpsest-operator")
    config = parse_config(config_map["data"]["config.yaml"], "config.yaml")
    assert config.stage_image == STAGE
    assert config.lease.namespace == "system"
    first, second = config.stores
    assert (first.endpoint, first.region, first.path_style) == (
        "http://10.0.0.9:9000",
        "us-east-1",
        False,
    )
    assert (second.endpoint, second.region, second.path_style) == (
        "https://s3.example.com",
        "eu-1",
        True,
    )
    pod = pick(rendered(values()), "Deployment", "palimpsest-operator")["spec"]["template"]["spec"]
    mounts = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
    secrets = {
        each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each
    }
    assert [secrets[mounts[store.credentials]] for store in config.stores] == ["store-a", "store-b"]


@pytest.mark.parametrize("component", ["operator", "admission"])
def test_spans_go_where_the_values_say_and_nowhere_without(component: str) -> None:
    def told(**tracing: Any) -> dict[str, Any]:
        found = pick(rendered(values(**tracing)), "Deployment", f"palimpsest-{component}")
        (container,) = found["spec"]["template"]["spec"]["containers"]
        return {
            each["name"]: each.get("value", each.get("valueFrom"))
            for each in container["env"]
            if each["name"].startswith("OTEL")
        }

    assert told() == {}
    assert told(tracing={"samplingRatio": 0.5, "headersSecret": "unused"}) == {}
    endpoint = "http://collector.monitoring:4318"
    assert told(tracing={"endpoint": endpoint}) == {
        ENDPOINT_VARIABLE: endpoint,
        RATIO_VARIABLE: "1",
    }
    assert told(tracing={"endpoint": endpoint, "samplingRatio": 0, "headersSecret": "key"}) == {
        ENDPOINT_VARIABLE: endpoint,
        RATIO_VARIABLE: "0",
        "OTEL_EXPORTER_OTLP_HEADERS": {"secretKeyRef": {"name": "key", "key": "headers"}},
    }


def test_a_collector_of_a_private_authority_is_trusted() -> None:
    tracing = {"endpoint": "https://collector.monitoring:4318", "caBundle": PEM}
    documents = rendered(values(tracing=tracing))
    assert pick(documents, "ConfigMap", "palimpsest-tracing")["data"] == {"ca.pem": PEM}
    for component in ("operator", "admission"):
        template = pick(documents, "Deployment", f"palimpsest-{component}")["spec"]["template"]
        (container,) = template["spec"]["containers"]
        (variable,) = (
            each for each in container["env"] if each["name"] == "OTEL_EXPORTER_OTLP_CERTIFICATE"
        )
        (mount,) = (each for each in container["volumeMounts"] if each["name"] == "tracing")
        assert variable["value"] == f"{mount['mountPath']}/ca.pem"
        (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == "tracing")
        assert volume["configMap"] == {"name": "palimpsest-tracing"}
        changed = rendered(values(tracing={**tracing, "caBundle": PEM + PEM}))
        other = pick(changed, "Deployment", f"palimpsest-{component}")["spec"]["template"]
        assert other["metadata"] != template["metadata"]
    for without in ({"caBundle": PEM}, {**tracing, "caBundle": ""}):
        assert "palimpsest-tracing" not in str(rendered(values(tracing=without)))


@pytest.mark.parametrize("endpoint", ["", "https://hub.example.com/mirror"])
def test_the_hub_is_the_public_one_or_a_mirror(endpoint: str) -> None:
    config_map = pick(
        rendered(values(hub={"endpoint": endpoint})), "ConfigMap", "palimpsest-operator"
    )
    config = parse_config(config_map["data"]["config.yaml"], "config.yaml")
    assert config.hub_endpoint == endpoint


def test_a_store_may_be_entered_without_keys_by_a_role() -> None:
    role = {
        "endpoint": "https://s3.example.com",
        "roleArn": "arn:aws:iam::1:role/operator",
        "caBundle": PEM,
        "sse": {"type": "KMS", "keyId": "k"},
    }
    documents = rendered(
        values(stores=[role, {**role, "audience": "other", "sse": {"type": "AES256"}}])
    )
    data = pick(documents, "ConfigMap", "palimpsest-operator")["data"]
    first, second = parse_config(data["config.yaml"], "the chart").stores
    assert (first.credentials, first.role_arn) == (None, role["roleArn"])
    assert first.token_file == "/etc/palimpsest/stores/0/token"
    assert first.sse is not None
    assert first.sse.key_id == "k"
    assert second.sse is not None
    assert second.sse.type == "AES256"
    assert data[Path(first.ca_bundle or "").name] == PEM
    pod = pick(documents, "Deployment", "palimpsest-operator")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    audiences = [
        volumes[f"store-{index}"]["projected"]["sources"][0]["serviceAccountToken"]["audience"]
        for index in range(2)
    ]
    assert audiences == ["sts.amazonaws.com", "other"]


def test_the_receipt_key_is_made_or_taken_and_mounted_in_the_operator_alone() -> None:
    made = rendered(values())
    secret = pick(made, "Secret", "palimpsest-receipt-key")
    key = base64.b64decode(secret["data"]["signing.pem"])
    assert isinstance(load_pem_private_key(key, None), Ed25519PrivateKey)
    # Outlives the release: what it signed must stay verifiable.
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    taken = rendered(values(receipts={"signingKeySecret": "own-key"}))
    assert "palimpsest-receipt-key" not in {each["metadata"]["name"] for each in taken}
    for documents, name in ((made, "palimpsest-receipt-key"), (taken, "own-key")):
        mounted = {
            each["metadata"]["name"]: volume["secret"]
            for each in documents
            if each["kind"] == "Deployment"
            for volume in each["spec"]["template"]["spec"]["volumes"]
            if volume.get("secret", {}).get("secretName") == name
        }
        assert mounted == {"palimpsest-operator": {"secretName": name, "defaultMode": 0o440}}
        pod = pick(documents, "Deployment", "palimpsest-operator")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "receipts"]
        assert mount["readOnly"] is True
        assert container["args"] == ["operator", f"--receipt-keys={mount['mountPath']}"]


def test_the_operator_may_publish_one_config_map_and_write_no_other() -> None:
    rules = pick(rendered(values()), "Role", "palimpsest-operator", "system")["rules"]
    granted = {
        (verb, name)
        for rule in rules
        if "configmaps" in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", ["*"])
    }
    assert granted == {
        ("create", "*"),
        ("get", "palimpsest-receipt-keys"),
        ("update", "palimpsest-receipt-keys"),
    }
    for document in rendered(values()):
        if document["kind"] == "ClusterRole":
            assert "configmaps" not in {one for r in document["rules"] for one in r["resources"]}


@pytest.mark.parametrize("mode", ["operator", "certManager"])
def test_no_role_names_everything_and_one_alone_two_secrets(mode: str) -> None:
    granted = set()
    for document in rendered(values(admission={"tls": {"mode": mode}})):
        if document["kind"] in ("Role", "ClusterRole"):
            for rule in document["rules"]:
                assert not {"*", "impersonate"} & {*rule["resources"], *rule["verbs"]}, document
                if "secrets" in rule["resources"]:
                    where = (document["kind"], document["metadata"]["namespace"])
                    assert where == ("Role", "system")
                    assert document["metadata"]["name"] == "palimpsest-operator"
                    names = rule.get("resourceNames", ["*"])
                    granted |= {(verb, name) for verb in rule["verbs"] for name in names}
    secrets = ("palimpsest-admission-ca", "palimpsest-admission-tls")
    own = {(verb, name) for verb in ("get", "update") for name in secrets} | {("create", "*")}
    assert granted == (own if mode == "operator" else set())


def test_tenants_roles_leave_budgets_to_custodians() -> None:
    documents = rendered(values())
    for name in ("palimpsest-view", "palimpsest-edit"):
        for rule in pick(documents, "ClusterRole", name)["rules"]:
            assert "privacybudgets" not in rule["resources"]


def test_named_tenants_replace_the_cluster_wide_right_to_run_jobs() -> None:
    documents = rendered(values(tenants={"namespaces": ["research"]}))
    wide = {each["metadata"]["name"] for each in documents if each["kind"] == "ClusterRoleBinding"}
    assert "palimpsest-stages" not in wide
    pick(documents, "RoleBinding", "palimpsest-stages", "research")
    pick(documents, "RoleBinding", "palimpsest-stages", "custody")
    pick(rendered(values()), "ClusterRoleBinding", "palimpsest-stages")


def test_services_are_made_in_custody_alone() -> None:
    granted = {
        (document["metadata"].get("namespace"), verb)
        for document in rendered(values())
        if document["kind"] in ("Role", "ClusterRole")
        for rule in document["rules"]
        if "services" in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {("custody", "create"), ("custody", "get")}


@pytest.mark.parametrize("name", ["palimpsest-operator", "palimpsest-admission"])
def test_pods_hold_to_the_restricted_standard(name: str) -> None:
    pod = pick(rendered(values()), "Deployment", name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["image"] == OPERATOR
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_admission_outlives_the_loss_of_a_node_where_it_has_several_pods(replicas: int) -> None:
    given = {"replicas": replicas, "priorityClassName": "system-cluster-critical"}
    documents = rendered(values(admission=given))
    template = pick(documents, "Deployment", "palimpsest-admission")["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    assert pod["priorityClassName"] == "system-cluster-critical"
    # For a single pod it would hold up every drain.
    kept = [each["spec"] for each in documents if each["kind"] == "PodDisruptionBudget"]
    assert [each["minAvailable"] for each in kept] == ([1] if replicas > 1 else [])
    for each in kept:
        assert each["selector"]["matchLabels"].items() <= labels.items()
        assert "operator" not in each["selector"]["matchLabels"].values()


def test_custody_is_denied_by_default_and_opened_by_value() -> None:
    documents = rendered(values())
    namespace = pick(documents, "Namespace", "custody")
    assert namespace["metadata"]["labels"]["palimpsest.dev/custody"] == "granted"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    deny = pick(documents, "NetworkPolicy", "palimpsest-default-deny", "custody")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    egress = pick(documents, "NetworkPolicy", "palimpsest-egress", "custody")["spec"]["egress"]
    assert egress[1:] == [
        {
            "to": [{"ipBlock": {"cidr": "10.0.0.9/32"}}],
            "ports": [{"protocol": "TCP", "port": 9000}],
        }
    ]
    peers = {"matchExpressions": [{"key": "palimpsest.dev/peers", "operator": "Exists"}]}
    assert pick(documents, "NetworkPolicy", "palimpsest-peers", "custody")["spec"] == {
        "podSelector": peers,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": peers}]}],
        "egress": [{"to": [{"podSelector": peers}]}],
    }
    account = pick(documents, "ServiceAccount", "private-data", "custody")
    assert account["automountServiceAccountToken"] is False
    own = values(custody={"namespaces": [{"name": "custody", "create": False}]})
    assert not [each for each in rendered(own) if each["kind"] == "Namespace"]


def test_the_webhook_fails_closed() -> None:
    documents = rendered(values())
    (hook,) = pick(documents, "ValidatingWebhookConfiguration", "palimpsest-admission")["webhooks"]
    assert (hook["failurePolicy"], hook["sideEffects"], hook["timeoutSeconds"]) == (
        "Fail",
        "None",
        5,
    )
    assert not [each for rule in hook["rules"] for each in rule["resources"] if "/" in each]


def admission_of(tls: Json) -> tuple[list[Json], Json, Json]:
    """All documents, the webhook configuration, and the admission pods' certificates."""
    documents = rendered(values(admission={"tls": tls}))
    pod = pick(documents, "Deployment", "palimpsest-admission")["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "certificates"]
    hook = pick(documents, "ValidatingWebhookConfiguration", "palimpsest-admission")
    return documents, hook, volume["secret"]


def kept_certificates(documents: list[Json]) -> Any:
    text = pick(documents, "ConfigMap", "palimpsest-operator")["data"]["config.yaml"]
    return parse_config(text, "config.yaml").admission_certificates


def test_the_operator_keeps_the_certificates_and_the_chart_leaves_its_field_alone() -> None:
    documents, hook, secret = admission_of({"leafLifetime": "720h", "trustWait": "2m"})
    assert "caBundle" not in hook["webhooks"][0]["clientConfig"]
    assert "palimpsest-admission-tls" not in {each["metadata"]["name"] for each in documents}
    # The CA's key lies in another Secret, which these pods never see.
    assert secret == {
        "secretName": "palimpsest-admission-tls",
        "defaultMode": 0o440,
    }
    kept = kept_certificates(documents)
    assert kept.names[0] == "palimpsest-admission.system.svc"
    assert (kept.leaf_lifetime, kept.trust_wait) == ("720h", "2m")
    assert kept.ca_lifetime == "87600h"


def test_cert_manager_makes_a_ca_of_its_own_or_takes_an_issuer() -> None:
    documents, hook, secret = admission_of({"mode": "certManager"})
    assert "caBundle" not in hook["webhooks"][0]["clientConfig"]
    injected = hook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert injected == "system/palimpsest-admission"
    leaf = pick(documents, "Certificate", "palimpsest-admission", "system")["spec"]
    authority = pick(documents, "Certificate", "palimpsest-admission-ca", "system")["spec"]
    issuer = pick(documents, "Issuer", leaf["issuerRef"]["name"], "system")["spec"]
    first = pick(documents, "Issuer", authority["issuerRef"]["name"], "system")["spec"]
    assert leaf["secretName"] == secret["secretName"] != authority["secretName"]
    assert leaf["dnsNames"][0] == "palimpsest-admission.system.svc"
    assert issuer == {"ca": {"secretName": authority["secretName"]}}
    assert (authority["isCA"], first) == (True, {"selfSigned": {}})
    assert kept_certificates(documents) is None

    given = {"kind": "ClusterIssuer", "name": "corporate", "group": "cert-manager.io"}
    documents, _, _ = admission_of({"mode": "certManager", "issuerRef": given})
    assert not [each for each in documents if each["kind"] == "Issuer"]
    (leaf,) = [each["spec"] for each in documents if each["kind"] == "Certificate"]
    assert leaf["issuerRef"] == given


def test_a_secret_of_ones_own_is_mounted_and_its_ca_trusted() -> None:
    documents, hook, secret = admission_of(
        {"mode": "secret", "secretName": "mine", "caBundle": "Y2E="}
    )
    assert hook["webhooks"][0]["clientConfig"]["caBundle"] == "Y2E="
    assert secret["secretName"] == "mine"
    assert kept_certificates(documents) is None


WRONG: list[tuple[Json, str]] = [
    (values(stores=[]), "stores"),
    (values(stores=[{"endpoint": "s3.example.com", "secretName": "a"}]), "stores.0.endpoint"),
    (values(admission={"replicas": 0}), "admission.replicas"),
    (values(logLevel="loud"), "logLevel"),
    (values(custdy={}), "custdy"),
    (values(custody={"namespaces": [{"name": "Custody"}]}), "custody.namespaces.0.name"),
    (
        values(images={"operator": OPERATOR, "stage": "palimpsest-stage:latest"}),
        'images.stage: "palimpsest-stage:latest" has no digest',
    ),
    (values(receipts={"signingKeySecret": "Own"}), "receipts.signingKeySecret"),
    (values(images={"operator": "", "stage": STAGE}), "images.operator"),
    (values(admission={"tls": {"mode": "secret", "secretName": "m"}}), "admission.tls.caBundle"),
    (values(admission={"tls": {"secretName": "mine"}}), "not used in mode operator"),
    (values(admission={"tls": {"issuerRef": {"name": "a"}}}), "admission.tls.issuerRef"),
    (values(admission={"tls": {"mode": "vault"}}), "admission.tls.mode"),
    (values(admission={"tls": {"trustWait": "soon"}}), "admission.tls.trustWait"),
    (
        values(metrics={"prometheusRule": {"runbookBaseURL": "docs/runbooks"}}),
        "metrics.prometheusRule.runbookBaseURL",
    ),
    (
        values(metrics={"prometheusRule": {"runbookSuffix": "html"}}),
        "metrics.prometheusRule.runbookSuffix",
    ),
]


@pytest.mark.parametrize(("given", "part"), WRONG, ids=[part for _, part in WRONG])
def test_wrong_values_are_refused_by_name(given: Json, part: str) -> None:
    done = template(given)
    assert done.returncode != 0
    # helm writes paths as /stores/0/endpoint or stores.0.endpoint, by version.
    assert part in done.stderr or "/" + part.replace(".", "/") in done.stderr, done.stderr


def test_the_last_act_of_an_uninstall_is_to_let_resources_go() -> None:
    hooks = [
        each
        for each in rendered(values())
        if "helm.sh/hook" in (each["metadata"].get("annotations") or {})
    ]
    assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in hooks} == {"post-delete"}
    job = pick(hooks, "Job", "palimpsest-uninstall")
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert [*container["command"], *container["args"]] == [
        "palimpsest",
        "uninstall",
        "--namespace=system",
    ]
    rights = [rule for each in hooks for rule in each.get("rules", ())]
    assert {verb for rule in rights for verb in rule["verbs"]} == {
        "get",
        "list",
        "patch",
        "create",
        "update",
    }
    assert not any("secrets" in rule["resources"] for rule in rights)
