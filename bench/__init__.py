"""The benchmark: what headrace costs on a real control plane, in seconds, requests, CPU and memory.

`python -m bench --n 100 --out FILE` runs the phases of docs/benchmarks.md on an ephemeral embedded cluster, with the
engine as a process of its own.
"""
