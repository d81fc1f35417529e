"""What the process listens on: metrics, probes, the Unix socket, and the loopback git server of `headrace up`."""
