"""Which algorithms git over SSH may use, where operators say so (upstream's ssh-kex-algos and ssh-hostkey-algos)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAlgorithms:
    """Names as SSH has them, best first; empty for those of the library."""

    key_exchange: tuple[str, ...] = ()
    host_key: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, list[str]]:
        """As asyncssh takes them."""
        chosen = {"kex_algs": list(self.key_exchange), "server_host_key_algs": list(self.host_key)}
        return {name: names for name, names in chosen.items() if names}


ANY = SshAlgorithms()
