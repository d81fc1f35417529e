"""Identities at clouds: what a workload exchanges its Kubernetes token, or its machine's identity, for.

`identities.Identities` is the entrance; a module for each cloud speaks its wire protocol.
"""

from headrace.identity.values import IdentityError, LdapLogin, NoIdentity, ServiceAccount

__all__ = ["IdentityError", "LdapLogin", "NoIdentity", "ServiceAccount"]
