"""output and view: objects as flux shows them."""

from __future__ import annotations

from headrace.api.kinds import KUSTOMIZATION
from headrace.cli.get import object_table
from headrace.cli.view import inventory_reference, shorten, view
from headrace.kube.objects import decode_object
from headrace.model.plan import InventoryEntry
from headrace.model.reference import Reference

OBJECT = b"""{"apiVersion":"kustomize.toolkit.fluxcd.io/v1","kind":"Kustomization",
"metadata":{"name":"app","namespace":"flux-system","generation":2},
"spec":{"interval":"1m","prune":true,"sourceRef":{"kind":"GitRepository","name":"r"}},
"status":{"lastAppliedRevision":"main@sha1:0123456789012345678901234567890123456789","conditions":[
{"type":"Ready","status":"True","reason":"ReconciliationSucceeded","observedGeneration":2,
"lastTransitionTime":"2026-11-21T11:00:00Z",
"message":"Applied revision: main@sha1:0123456789012345678901234567890123456789"}]}}"""


def test_the_table_has_the_columns_of_flux_and_short_revisions() -> None:
    out = object_table(KUSTOMIZATION, [view(decode_object(OBJECT))], all_namespaces=True, prefix=False)
    header, row = out.split("\n")
    assert header.split() == ["NAMESPACE", "NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"]
    assert row.split("\t")[:5] == ["flux-system", "app ", "main@sha1:01234567", "False    ", "True "]
    assert "Applied revision: main@sha1:01234567" in row


def test_an_object_nobody_has_looked_at_is_unknown() -> None:
    obj = view(decode_object(OBJECT.replace(b'"status":{', b'"status":{}, "x":{')))
    assert (obj.ready_status, obj.observed) == ("Unknown", False)


def test_conditions_of_an_older_generation_do_not_count() -> None:
    assert view(decode_object(OBJECT)).observed
    assert not view(decode_object(OBJECT.replace(b'"generation":2', b'"generation":3'))).observed


def test_a_request_that_was_not_handled_is_not_observed() -> None:
    asked = OBJECT.replace(b'"generation":2', b'"generation":2,"annotations":{"reconcile.fluxcd.io/requestedAt":"x"}')
    assert not view(decode_object(asked)).observed
    assert view(decode_object(asked.replace(b'"status":{', b'"status":{"lastHandledReconcileAt":"x",'))).observed


def test_commits_are_cut_and_words_are_not() -> None:
    assert shorten("v1@sha256:" + "ab" * 32) == "v1@sha256:abababab"
    assert shorten("nothing deadbeef here") == "nothing deadbeef here"


def test_inventory_ids_name_objects() -> None:
    assert inventory_reference(InventoryEntry("ns_web_apps_Deployment", "v1")) == Reference(
        "apps", "Deployment", "ns", "web"
    )
    assert inventory_reference(InventoryEntry("_apps__Namespace", "v1")) == Reference("", "Namespace", "", "apps")
    role = inventory_reference(InventoryEntry("_system__node_rbac.authorization.k8s.io_ClusterRole", "v1"))
    assert role.name == "system:node"
