import pytest

from headrace.apply import inventory
from headrace.model.plan import InventoryEntry
from headrace.model.reference import Reference

IDS = [
    pytest.param(Reference("apps", "Deployment", "default", "web"), "default_web_apps_Deployment", id="namespaced"),
    pytest.param(Reference("", "Namespace", "", "apps"), "_apps__Namespace", id="cluster-scoped core"),
    pytest.param(
        Reference("rbac.authorization.k8s.io", "ClusterRole", "", "system:app:view"),
        "_system__app__view_rbac.authorization.k8s.io_ClusterRole", id="rbac colons"),
    pytest.param(
        Reference("rbac.authorization.k8s.io", "Role", "a", "x_y"), "a_x_y_rbac.authorization.k8s.io_Role",
        id="underscore in an rbac name"),
]


@pytest.mark.spec("KS-INV-01")
@pytest.mark.parametrize(("reference", "text"), IDS)
def test_an_entry_has_upstreams_id_and_is_read_back(reference: Reference, text: str) -> None:
    assert inventory.entry(reference, "v1") == InventoryEntry(text, "v1")
    assert inventory.parse(text, "v1") == (reference, "v1")


@pytest.mark.spec("REL-37")
@pytest.mark.parametrize("text", ["", "web", "a_b", "a_b_c", "v2:default/web", "a__apps_Deployment"])
def test_an_entry_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(inventory.UnreadableEntryError):
        inventory.parse(text, "v1")


def test_a_changed_version_keeps_one_entry_and_makes_nothing_stale() -> None:
    old, new = InventoryEntry("a_b_apps_Deployment", "v1beta1"), InventoryEntry("a_b_apps_Deployment", "v1")
    assert inventory.union([old], [new]) == (new,)
    assert inventory.stale([old], [new]) == ()


def test_what_is_owned_and_not_wanted_is_stale() -> None:
    old, new = InventoryEntry("a_b__ConfigMap", "v1"), InventoryEntry("a_c__ConfigMap", "v1")
    assert inventory.stale([old, new], [new]) == (old,)
    assert inventory.union([old], [new]) == (old, new)


def test_a_namespace_that_a_kind_has_not_makes_nothing_stale() -> None:
    """Deleting by the old entry would delete the very object that is wanted."""
    before, now = InventoryEntry("a_b_example.com_Widget", "v1"), InventoryEntry("_b_example.com_Widget", "v1")
    other = InventoryEntry("a_c_example.com_Widget", "v1")
    assert inventory.stale([before, other], [now]) == (other,)
    assert inventory.stale([before], []) == (before,)
