"""What was applied last, remembered on local disk, so that unchanged objects cost no request after a restart.

A cache, not the truth: when it is lost or behind, every object concerned is looked at once more and nothing else
happens. So durability is not paid for, and a file that cannot be read is put aside and begun anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from headrace.model.manifests import FileRead
from headrace.model.reference import Reference

log = logging.getLogger(__name__)

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS applied (
  owner TEXT, cluster TEXT, grp TEXT, kind TEXT, namespace TEXT, name TEXT,
  digest TEXT, signature TEXT, resource_version TEXT, skipped INTEGER, vanishes INTEGER,
  PRIMARY KEY (owner, cluster, grp, kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivery (owner TEXT PRIMARY KEY, content BLOB) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_PUT = "INSERT OR REPLACE INTO applied VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_DROP = """
DELETE FROM applied
WHERE owner=? AND cluster=? AND grp=? AND kind=? AND namespace=? AND name=?
"""
_GET = """
SELECT cluster,grp,kind,namespace,name,digest,signature,resource_version,skipped,vanishes
FROM applied WHERE owner=?
"""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One object as it was left: digest of the manifest, drift signature, and the resourceVersion of that state.

    `skipped` objects were left alone on purpose; what their signature was then is remembered all the same.
    `vanishes` says that the object goes away by itself (a Job with a TTL), which is neither drift nor bad health
    until the next interval.
    """

    digest: str
    signature: str
    resource_version: str
    skipped: bool = False
    vanishes: bool = False


class LastDelivery(msgspec.Struct, frozen=True, gc=False):
    """The last complete delivery of one owner: everything its manifests were made from.

    `inputs` is the digest of the specification and the variables, `artifact` that of the artifact's file.
    """

    inputs: str
    artifact: str
    manifests: str
    reads: tuple[FileRead, ...]


_deliveries = msgspec.json.Decoder(LastDelivery)


class OwnerRecords:
    """What is remembered of one owner. Changes are in memory at once, and on disk after `AppliedStore.save`."""

    def __init__(self, owner: str, records: dict[Reference, Record], delivery: LastDelivery | None) -> None:
        self.owner = owner
        self.delivery = delivery
        self._records = records
        self._dirty: set[Reference] = set()
        self._delivery_dirty = False

    @property
    def records(self) -> Mapping[Reference, Record]:
        return self._records

    def put(self, reference: Reference, record: Record) -> None:
        if self._records.get(reference) != record:
            self._records[reference] = record
            self._dirty.add(reference)

    def drop(self, references: Iterable[Reference]) -> None:
        """Forget objects; those that are not known are no error."""
        for reference in references:
            if self._records.pop(reference, None) is not None:
                self._dirty.add(reference)

    def keep_only(self, references: Iterable[Reference]) -> None:
        """Forget all objects but these."""
        wanted = set(references)
        self.drop([r for r in self._records if r not in wanted])

    def delivered(self, delivery: LastDelivery | None) -> None:
        """Remember a delivery as complete; None while one is under way."""
        if delivery != self.delivery:
            self.delivery = delivery
            self._delivery_dirty = True

    def take_changes(self) -> tuple[list[tuple[Reference, Record | None]], bool]:
        """What must be written to disk (None: dropped), and whether the delivery must."""
        changes = [(reference, self._records.get(reference)) for reference in self._dirty]
        delivery_dirty, self._delivery_dirty = self._delivery_dirty, False
        self._dirty = set()
        return changes, delivery_dirty


class AppliedStore:
    """The store of all owners (keyed by uid) in one SQLite file. All access to the file is in one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owners: dict[str, OwnerRecords] = {}
        self._thread = ThreadPoolExecutor(1, "applied-store")
        self._connection: sqlite3.Connection | None = None

    async def owner(self, uid: str) -> OwnerRecords:
        """What is remembered of the owner; the same object at every call."""
        known = self._owners.get(uid)
        if known is None:
            loaded = await self._run(self._load, uid)
            known = self._owners.setdefault(uid, loaded)
        return known

    async def save(self, records: OwnerRecords) -> None:
        """Write what changed. Failing to is logged and otherwise harmless."""
        changes, delivery_dirty = records.take_changes()
        if changes or delivery_dirty:
            await self._run(self._write, records.owner, changes, records.delivery, delivery_dirty)

    async def forget(self, uid: str) -> None:
        """The owner is gone."""
        self._owners.pop(uid, None)
        await self._run(self._delete, uid)

    async def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: object, *arguments: object) -> OwnerRecords:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)  # type: ignore[arg-type]

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._connection = _connect(self._path)
            except sqlite3.DatabaseError as error:
                log.warning("the store of applied objects is unreadable and begun anew", extra={"error": str(error)})
                for suffix in ("", "-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                self._connection = _connect(self._path)
        return self._connection

    def _load(self, uid: str) -> OwnerRecords:
        try:
            connection = self._open()
            rows = connection.execute(_GET, (uid,)).fetchall()
            row = connection.execute("SELECT content FROM delivery WHERE owner=?", (uid,)).fetchone()
            delivery = _deliveries.decode(row[0]) if row else None
        except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
            log.warning("the store of applied objects cannot be read", extra={"error": str(error)})
            return OwnerRecords(uid, {}, None)
        return OwnerRecords(uid, dict(map(_record, rows)), delivery)

    def _write(
        self, uid: str, changes: list[tuple[Reference, Record | None]], delivery: LastDelivery | None,
        delivery_dirty: bool,
    ) -> None:
        puts = [(*_key(uid, ref), *msgspec.structs.astuple(rec)) for ref, rec in changes if rec is not None]
        drops = [_key(uid, reference) for reference, record in changes if record is None]
        try:
            with self._open() as connection:
                connection.executemany(_DROP, drops)
                connection.executemany(_PUT, puts)
                if delivery_dirty:
                    content = b"" if delivery is None else msgspec.json.encode(delivery)
                    connection.execute("DELETE FROM delivery WHERE owner=?", (uid,))
                    if content:
                        connection.execute("INSERT INTO delivery VALUES (?,?)", (uid, content))
        except (sqlite3.Error, OSError) as error:
            log.warning("the store of applied objects cannot be written", extra={"error": str(error)})

    def _delete(self, uid: str) -> None:
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as connection:
            connection.execute("DELETE FROM applied WHERE owner=?", (uid,))
            connection.execute("DELETE FROM delivery WHERE owner=?", (uid,))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        connection.executescript(_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    path.chmod(0o600)
    return connection


def _record(row: tuple[str, ...]) -> tuple[Reference, Record]:
    cluster, group, kind, namespace, name, digest, signature, version, skipped, vanishes = row
    reference = Reference(group, kind, namespace, name, cluster)
    return reference, Record(digest, signature, version, bool(skipped), bool(vanishes))


def _key(uid: str, reference: Reference) -> tuple[str, str, str, str, str, str]:
    return uid, reference.cluster, reference.group, reference.kind, reference.namespace, reference.name
