"""Bytes that travel inside an event while they are few, and as a file of the store when they are many."""

from __future__ import annotations

import hashlib

from orch.bus.events import INLINE_LIMIT, Blob
from orch.errors import StoreError
from orch.store.file import FileStore


def make_blob(store: FileStore, path: str, data: bytes, *, sync: bool = True) -> Blob:
    """`data` as a blob: inline up to `INLINE_LIMIT`, else written to `path`, durable before this returns."""
    if len(data) <= INLINE_LIMIT:
        return Blob(data=data, size=len(data))
    return Blob(file=path, size=len(data), digest=store.write_bytes(path, data, sync=sync))


def blob_bytes(store: FileStore, blob: Blob, *, verify: bool = False) -> bytes:
    """The bytes. Raises `NoSuchFile`, or `StoreError` where the file is not what was written.

    The size is always compared, the digest if `verify`.
    """
    if not blob.file:
        return blob.data
    data = store.read_bytes(blob.file)
    if len(data) != blob.size:
        raise StoreError(f"{store.local_path(blob.file)} has {len(data)} bytes, and {blob.size} were written")
    if verify and blob.digest and f"sha256:{hashlib.sha256(data).hexdigest()}" != blob.digest:
        raise StoreError(f"{store.local_path(blob.file)} has changed since it was written: its digest differs")
    return data
