package component

import "go.etcd.io/etcd/server/v3/etcdmain"

// runEtcd ends the process itself when the server stops with an error.
func runEtcd(args []string) int {
	etcdmain.Main(args)
	return 0
}
