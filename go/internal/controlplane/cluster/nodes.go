package cluster

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// object is a Kubernetes object on its way to the API server.
type object = map[string]any

var resources = object{
	"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "5000",
	"hugepages-1Gi": "0", "hugepages-2Mi": "0",
}

// node looks like one that a kubelet registered; kwok keeps its status and lease.
func node(index int) object {
	name := fmt.Sprintf("node-%d", index)
	return object{
		"apiVersion": "v1", "kind": "Node",
		"metadata": object{
			"name":        name,
			"annotations": object{"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
			"labels": object{
				"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
				"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
				"node.kubernetes.io/instance-type": "simulated", "topology.kubernetes.io/region": "local",
				"topology.kubernetes.io/zone": fmt.Sprintf("local-%c", 'a'+index%3), "type": "kwok",
			},
		},
		"status": object{"allocatable": resources, "capacity": resources, "nodeInfo": nodeInfo},
	}
}

var nodeInfo = object{
	"architecture": "amd64", "operatingSystem": "linux", "bootID": "", "containerRuntimeVersion": "containerd://2.1.0",
	"kernelVersion": "6.12.0", "kubeProxyVersion": "", "kubeletVersion": kubernetesVersion, "machineID": "",
	"osImage": "simulated", "systemUUID": "",
}

var storageClass = object{
	"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
	"metadata": object{
		"name":        "standard",
		"annotations": object{"storageclass.kubernetes.io/is-default-class": "true"},
	},
	"provisioner": "headrace.dev/simulated", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
}

// populate makes what a fresh cluster of any provider has: nodes and storage.
func populate(ctx context.Context, a *api, nodes int) error {
	if err := a.create(ctx, "/apis/storage.k8s.io/v1/storageclasses", storageClass); err != nil {
		return err
	}
	for index := range nodes {
		if err := a.create(ctx, "/api/v1/nodes", node(index)); err != nil {
			return err
		}
	}
	return nil
}

type nodeList struct {
	Items []struct {
		Spec struct {
			Taints []struct {
				Key string `json:"key"`
			} `json:"taints"`
		} `json:"spec"`
		Status struct {
			Conditions []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
			} `json:"conditions"`
		} `json:"status"`
	} `json:"items"`
}

// usable counts the nodes on which the scheduler would place a pod.
func (l nodeList) usable() (count int) {
	for _, item := range l.Items {
		for _, condition := range item.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" && len(item.Spec.Taints) == 0 {
				count++
			}
		}
	}
	return count
}

// waitUsable returns when a pod created now would run.
func waitUsable(ctx context.Context, a *api, nodes int) error {
	return poll(ctx, 50*time.Millisecond, func(ctx context.Context) bool {
		var list nodeList
		if _, err := a.call(ctx, http.MethodGet, "/api/v1/nodes", nil, &list); err != nil || list.usable() < nodes {
			return false
		}
		_, err := a.call(ctx, http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", nil, nil)
		return err == nil
	})
}
