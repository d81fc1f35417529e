from pathlib import Path

from headrace.apply.applied import AppliedStore, LastDelivery, Record
from headrace.model.manifests import FileRead
from headrace.model.reference import Reference

REF = Reference("", "ConfigMap", "default", "app", "remote-1")
OTHER = Reference("", "ConfigMap", "default", "other")
DELIVERY = LastDelivery("i", "sha256:1", "m", (FileRead("a.yaml", "file", "00"),))


async def test_records_survive_a_restart(tmp_path: Path) -> None:
    store = AppliedStore(tmp_path / "applied.db")
    owner = await store.owner("u1")
    owner.put(REF, Record("d", "s", "7", skipped=True))
    owner.put(OTHER, Record("d", "s", "8"))
    owner.delivered(DELIVERY)
    await store.save(owner)
    owner.drop([OTHER])
    await store.save(owner)
    await store.close()

    again = await AppliedStore(tmp_path / "applied.db").owner("u1")
    assert dict(again.records) == {REF: Record("d", "s", "7", skipped=True)}
    assert again.delivery == DELIVERY


async def test_a_delivery_under_way_when_the_process_ends_is_no_complete_one(tmp_path: Path) -> None:
    store = AppliedStore(tmp_path / "applied.db")
    owner = await store.owner("u1")
    owner.put(REF, Record("d", "s", "7", vanishes=True))
    owner.delivered(DELIVERY)
    await store.save(owner)
    owner.delivered(None)
    await store.save(owner)
    await store.close()

    again = AppliedStore(tmp_path / "applied.db")
    remembered = await again.owner("u1")
    await again.close()
    assert remembered.delivery is None
    assert dict(remembered.records) == {REF: Record("d", "s", "7", vanishes=True)}


async def test_an_owner_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    store = AppliedStore(tmp_path / "applied.db")
    owner = await store.owner("u1")
    owner.put(REF, Record("d", "s", "7"))
    owner.delivered(DELIVERY)
    await store.save(owner)
    await store.forget("u1")
    again = await store.owner("u1")
    assert (dict(again.records), again.delivery) == ({}, None)
    await store.close()


async def test_owners_do_not_see_each_others_records(tmp_path: Path) -> None:
    store = AppliedStore(tmp_path / "applied.db")
    (await store.owner("u1")).put(REF, Record("d", "s", "7"))
    assert dict((await store.owner("u2")).records) == {}
    await store.close()


async def test_a_broken_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "applied.db"
    path.write_bytes(b"no database" * 1000)
    store = AppliedStore(path)
    owner = await store.owner("u1")
    owner.put(REF, Record("d", "s", "7"))
    await store.save(owner)
    await store.close()
    again = AppliedStore(path)
    assert (await again.owner("u1")).records == {REF: Record("d", "s", "7")}
    await again.close()


async def test_a_place_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = AppliedStore(tmp_path / "file" / "applied.db")
    owner = await store.owner("u1")
    owner.put(REF, Record("d", "s", "7"))
    await store.save(owner)
    assert (await store.owner("u1")).records == {REF: Record("d", "s", "7")}
    await store.close()
