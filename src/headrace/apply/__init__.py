"""Applying: decide what becomes of each object (pure), then do it against a cluster.

Pure: `control`, `inventory`, `order`, `signature`, `planner`, `decision`, `takeover`, `health`, `rivalry`.
Acting: `target`, `applier`, `prune`, `termination`, `waiter`. Remembering: `applied`.
"""
