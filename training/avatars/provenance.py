"""What the credentials of a film or picture say about the avatar that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.provenance.marks import Ingredient, Provenance
from training.avatars.avatar import Avatar


def portraits_of(avatar: Avatar, files: Mapping[str, Path] | None = None) -> tuple[Ingredient, ...]:
    """Return the pictures of an avatar as ingredients; `files` has those at hand, by sha256."""
    files = files or {}
    return tuple(
        Ingredient("portrait", portrait.name, portrait.sha256, files.get(portrait.sha256))
        for portrait in avatar.portraits
    )


def provenance_of(
    avatar: Avatar, ingredients: Sequence[Ingredient], options: Mapping[str, Any], command: str
) -> Provenance:
    """Return how something was made of an avatar: its model, that model's training, and the consent's hash."""
    return Provenance(
        tuple(ingredients),
        model=avatar.base_version,
        mlflow_run=avatar.lineage.mlflow_run,
        dataset_digest=avatar.lineage.dataset_digest,
        options=options,
        command=command,
        consent_sha256=avatar.consent_sha256,
    )
