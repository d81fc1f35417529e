// Package component runs one part of a Kubernetes control plane in this
// process, from its official Go module. The parts fight over process-wide
// flags, signal handlers and log configuration, so one process runs one part.
package component

import (
	"sort"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // the JSON log format
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // the version metric
	_ "time/tzdata"                                       // time zones of CronJobs

	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// Names of the components, which are also the names of their sub-commands.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
	Kubectl           = "kubectl"
)

// runs maps a component to the function that runs it to its end and returns
// the exit code. Each reads its flags from os.Args, as upstream's mains do.
var runs = map[string]func(args []string) int{
	Etcd:              runEtcd,
	APIServer:         runCobra(func() *cobra.Command { return apiserver.NewAPIServerCommand() }),
	ControllerManager: runCobra(func() *cobra.Command { return controllermanager.NewControllerManagerCommand() }),
	Scheduler:         runCobra(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	Kwok:              runKwok,
	Kubectl:           runKubectl,
}

// Lookup returns the function that runs the named component.
func Lookup(name string) (run func(args []string) int, known bool) {
	run, known = runs[name]
	return run, known
}

// Names lists the components in alphabetical order.
func Names() []string {
	names := make([]string, 0, len(runs))
	for name := range runs {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func runCobra(build func() *cobra.Command) func([]string) int {
	return func([]string) int { return cli.Run(build()) }
}
