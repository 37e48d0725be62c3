// Command argo says what Argo CD makes of resources: their health, which actions it offers, and
// the merge patch that each would send. It reads a JSON list of them from standard input. What it
// knows of their kinds is in the ConfigMap argocd-cm of the namespace, read as Argo CD reads it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"github.com/argoproj/gitops-engine/pkg/health"
	jsonpatch "github.com/evanphx/json-patch"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

type action struct {
	Disabled bool            `json:"disabled"`
	Patch    json.RawMessage `json:"patch"`
}

type opinion struct {
	Health  *health.HealthStatus `json:"health"`
	Actions map[string]action    `json:"actions"`
}

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: argo KUBECONFIG NAMESPACE"))
	}
	opinions, err := judge(context.Background(), os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(opinions); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func judge(ctx context.Context, kubeconfig, namespace string) ([]opinion, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	overrides, err := settings.NewSettingsManager(ctx, client, namespace).GetResourceOverrides()
	if err != nil {
		return nil, err
	}
	var objects []map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return nil, err
	}
	opinions := make([]opinion, len(objects))
	for i, object := range objects {
		resource := &unstructured.Unstructured{Object: object}
		found, err := health.GetResourceHealth(resource, lua.ResourceHealthOverrides(overrides))
		if err != nil {
			return nil, err
		}
		actions, err := offered(lua.VM{ResourceOverrides: overrides}, resource)
		if err != nil {
			return nil, err
		}
		opinions[i] = opinion{Health: found, Actions: actions}
	}
	return opinions, nil
}

func offered(vm lua.VM, resource *unstructured.Unstructured) (map[string]action, error) {
	actions := map[string]action{}
	scripts, err := vm.GetResourceActionDiscovery(resource)
	if err != nil || len(scripts) == 0 {
		return actions, err
	}
	found, err := vm.ExecuteResourceActionDiscovery(resource, scripts)
	if err != nil {
		return nil, err
	}
	for _, each := range found {
		patch, err := effect(vm, resource, each.Name)
		if err != nil {
			return nil, fmt.Errorf("action %s: %w", each.Name, err)
		}
		actions[each.Name] = action{Disabled: each.Disabled, Patch: patch}
	}
	return actions, nil
}

// effect is what Argo CD's server sends to the API server when somebody runs the action.
func effect(vm lua.VM, resource *unstructured.Unstructured, name string) ([]byte, error) {
	definition, err := vm.GetResourceAction(resource, name)
	if err != nil {
		return nil, err
	}
	before, err := json.Marshal(resource)
	if err != nil {
		return nil, err
	}
	impacted, err := vm.ExecuteResourceAction(resource, definition.ActionLua, nil)
	if err != nil {
		return nil, err
	}
	if len(impacted) != 1 || impacted[0].K8SOperation != lua.PatchOperation {
		return nil, fmt.Errorf("it does more than to change its own resource")
	}
	after, err := json.Marshal(impacted[0].UnstructuredObj)
	if err != nil {
		return nil, err
	}
	return jsonpatch.CreateMergePatch(before, after)
}
