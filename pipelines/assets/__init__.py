"""Pretrained files and demo clips by name, verified by sha256."""

from pipelines.assets.cache import (
    NOT_FETCHED,
    AssetError,
    CacheError,
    cache_folder,
    fetch,
    fetch_from,
    fetch_many,
    find,
    is_cached,
    locked,
    path_of,
    verify,
)
from pipelines.assets.catalogue import Asset

__all__ = [
    "NOT_FETCHED",
    "Asset",
    "AssetError",
    "CacheError",
    "cache_folder",
    "fetch",
    "fetch_from",
    "fetch_many",
    "find",
    "is_cached",
    "locked",
    "path_of",
    "verify",
]
