"""What an operator may set about the engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Defaults are upstream's (kustomization.md section 6) unless said otherwise."""

    concurrent: int = 50
    """Runs that work at the same time. Upstream has 4, each held by its health checks; here waiting holds none."""
    requeue_dependency: float = 30.0
    """Seconds: the fallback timer of an object that waits for another one; the event normally comes first."""
    min_retry_delay: float = 0.75
    """Seconds: the first delay of the exponential backoff."""
    max_retry_delay: float = 900.0
    """Seconds: the longest delay of the exponential backoff."""
    interval_jitter: float = 0.05
    """Fraction by which intervals are spread after a success, in both directions."""
    progress_after: float = 1.0
    """Seconds that a run lasts before its progress is written to the object."""
    drain_grace: float = 25.0
    """Seconds that runs get to finish after the engine was told to stop: less than a Pod's default of 30."""
    stall_threshold: float = 0.1
    """Seconds that the event loop may be blocked before it is counted and logged (REL-40)."""
    traces: int = 5
    """Runs whose traces are kept, per object."""
    namespaces: tuple[str, ...] = ()
    """Namespaces that are watched; empty for all."""
    selector: str = ""
    """Label selector of the objects that are served: upstream's `--watch-label-selector`, the shards."""
    kinds: frozenset[str] = frozenset()
    """Kinds that are served (`--controllers`); empty for all."""
    isolated: bool = False
    """References lead to other namespaces only where the target consents (strict tenancy; off as Flux)."""
    tenant_account: str = ""
    """Account that reads the Secrets and ConfigMaps of an object that names none; empty: the engine itself, as Flux."""
    runtime_namespace: str = ""
    """The engine's own namespace, whose Secrets and ConfigMaps operators may name in settings."""
    min_interval: float = 0.0
    """Seconds below which no interval of an object is followed; 0 as Flux."""
    verified_namespaces: frozenset[str] = frozenset()
    """Namespaces whose sources must be verified, `*` for all; empty as Flux."""
