"""Bytes at any path or URL: open, list, read, write atomically. Call them as `storage.open`, `storage.list`."""

from pipelines.storage.atomic import atomic_write, create, write_bytes
from pipelines.storage.files import (
    Found,
    check_file,
    exists,
    is_folder,
    list,
    local_copy,
    look_up,
    open,
    read_bytes,
    remove,
    remove_partial_files,
    size,
    walk,
)
from pipelines.storage.listing import FileInfo
from pipelines.storage.many import read_each
from pipelines.storage.range_reads import download, ranges
from pipelines.storage.scratch import ScratchFolder
from pipelines.storage.urls import (
    absolute,
    arrow_filesystem,
    is_hidden,
    is_local,
    join,
    local_path,
    name,
    parent,
    relative,
)

__all__ = [
    "FileInfo",
    "Found",
    "ScratchFolder",
    "absolute",
    "arrow_filesystem",
    "atomic_write",
    "check_file",
    "create",
    "download",
    "exists",
    "is_folder",
    "is_hidden",
    "is_local",
    "join",
    "list",
    "local_copy",
    "local_path",
    "look_up",
    "name",
    "open",
    "parent",
    "ranges",
    "read_bytes",
    "read_each",
    "relative",
    "remove",
    "remove_partial_files",
    "size",
    "walk",
    "write_bytes",
]
