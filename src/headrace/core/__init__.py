"""What every other package stands on: time, chance, limits, processes, and the single gates for archives and URLs.

Nothing in here knows about Kubernetes or Flux, and nothing in here imports another package of headrace.
"""
