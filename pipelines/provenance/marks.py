"""Sign films and pictures with C2PA credentials, after everything else has been written: remuxing drops them.

The manifest follows the C2PA specification 2.2: one action `c2pa.created`, with the inputs as ingredients, and
`c2pa.placed` for recorded footage that is shown. The library is c2pa-python. Nothing is fetched: no time stamp, no
trust list.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pipelines.one_line import one_line
from pipelines.provenance.signing_key import SigningKey
from pipelines.storage.atomic import PARTIAL_PREFIX

GENERATOR = "Sfumato"
RENDER = "org.sfumato.render"
"""Label of the assertion that says how a file was made."""
SIDECAR = ".c2pa"
"""Suffix, after the file's whole name, of credentials beside a file that cannot hold them."""
EMBEDDED = {
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
"""Media types by suffix of the files that hold their credentials themselves."""
_OTHER = "application/octet-stream"  # credentials over all bytes of the file
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_SIGNING: dict[str, Any] = {
    "verify": {
        "verify_after_sign": False,
        "verify_trust": False,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True)
class Ingredient:
    """An input of a film or picture."""

    role: Literal["portrait", "film", "driver"]
    name: str
    """Of the file, without folders."""
    sha256: str
    path: Path | None = None
    """The file, whose own credentials are kept; None: only name and hash are."""
    is_shown: bool = False
    """Whether recorded frames of it are shown as they are."""


@dataclass(frozen=True)
class Provenance:
    """How a film or picture was made: what its credentials say. No absolute paths and no names of people."""

    ingredients: tuple[Ingredient, ...]
    model: str
    """Version of the base model: sha256 of its manifest."""
    mlflow_run: str | None = None
    """MLflow run that trained it."""
    dataset_digest: str | None = None
    """sha256 of the dataset.json that it was trained on."""
    options: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    """The command that makes it again."""
    consent_sha256: str | None = None
    """sha256 of the consent statement (UTF-8)."""

    @property
    def source_type(self) -> str:
        """IPTC's digital source type. What is drawn from stills alone is generated altogether; where recorded frames
        are shown, beside the result or around the driven parts of a face, it is a composite."""
        shown = any(ingredient.is_shown for ingredient in self.ingredients)
        return _IPTC + ("compositeWithTrainedAlgorithmicMedia" if shown else "trainedAlgorithmicMedia")


def mark(path: Path, provenance: Provenance, key: SigningKey) -> Path | None:
    """Sign a file in place; return the path of the credentials if they are beside it: `NAME.c2pa`.

    Frames and sound keep their bytes. The file is replaced when all is written.

    Raises:
        ValueError: the file is broken, or the certificate is not one that C2PA allows.
        OSError: it cannot be written.
    """
    media_type = EMBEDDED.get(path.suffix.lower())
    partial = path.with_name(f"{PARTIAL_PREFIX}{uuid.uuid4().hex}")
    try:
        with path.open("rb") as source, partial.open("w+b") as sink:
            credentials = _sign(source, sink, path.name, media_type, provenance, key)
        if media_type is None:
            partial.write_bytes(credentials)
            return partial.replace(path.with_name(path.name + SIDECAR))
        partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
        return None
    finally:
        partial.unlink(missing_ok=True)


def marked(data: bytes, name: str, provenance: Provenance, key: SigningKey) -> bytes:
    """Return a picture of this name (PNG, JPEG or WebP) with credentials. Raises like `mark`."""
    sink = io.BytesIO()
    _sign(io.BytesIO(data), sink, Path(name).name, EMBEDDED[Path(name).suffix.lower()], provenance, key)
    return sink.getvalue()


def _sign(
    source: BinaryIO | io.BytesIO,
    sink: BinaryIO | io.BytesIO,
    name: str,
    media_type: str | None,
    provenance: Provenance,
    key: SigningKey,
) -> bytes:
    import c2pa

    format = media_type or _OTHER
    kept = [_own_credentials(ingredient) for ingredient in provenance.ingredients]
    manifest = _manifest(name, format, provenance, [own is not None for own in kept])
    try:
        with _signer(key) as signer, c2pa.Builder(manifest, _context()) as builder:
            for number, (ingredient, own) in enumerate(zip(provenance.ingredients, kept, strict=True)):
                if own is not None and ingredient.path is not None:
                    with ingredient.path.open("rb") as file:
                        builder.add_ingredient(_ingredient(ingredient, number), own, file)
            if media_type is None:
                builder.set_no_embed()
            credentials: bytes = builder.sign(signer, format, source, sink)
            return credentials
    except c2pa.C2paError as error:
        raise ValueError(f"{name} cannot be signed: {one_line(error, 200)}") from None


@cache
def _context() -> Any:
    import c2pa

    return c2pa.Context(c2pa.Settings.from_dict(_SIGNING))


def _signer(key: SigningKey) -> Any:
    import c2pa

    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(key.algorithm.encode(), key.chain, key.private_key, None))


def _own_credentials(ingredient: Ingredient) -> str | None:
    """Return the media type of an ingredient that has credentials of its own, else None."""
    import c2pa

    path = ingredient.path
    media_type = None if path is None else EMBEDDED.get(path.suffix.lower())
    if path is None or media_type is None:
        return None
    try:
        with path.open("rb") as file, c2pa.Reader(media_type, file, context=_context()):
            return media_type
    except (c2pa.C2paError, OSError):  # it has none, or broken ones
        return None


def _manifest(name: str, format: str, provenance: Provenance, kept: Sequence[bool]) -> dict[str, Any]:
    made_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    labels = [_label(ingredient, number) for number, ingredient in enumerate(provenance.ingredients)]
    shown = [label for label, each in zip(labels, provenance.ingredients, strict=True) if each.is_shown]
    inputs = [label for label in labels if label not in shown]
    agent = {"name": GENERATOR, "version": sfumato_version()}
    created = {
        "action": "c2pa.created",
        "when": made_at,
        "softwareAgent": agent,
        "digitalSourceType": provenance.source_type,
        **({"parameters": {"ingredientIds": inputs}} if inputs else {}),
    }
    placed = {"action": "c2pa.placed", "softwareAgent": agent, "parameters": {"ingredientIds": shown}}
    facts = {
        "model": provenance.model,
        "mlflow_run": provenance.mlflow_run,
        "dataset_digest": provenance.dataset_digest,
        "options": provenance.options,
        "command": provenance.command,
        "consent_sha256": provenance.consent_sha256,
        "made_at": made_at,
        "ingredients": [
            {"role": each.role, "name": each.name, "sha256": each.sha256} for each in provenance.ingredients
        ],
    }
    return {
        "claim_generator_info": [agent],
        "title": name,
        "format": format,
        "ingredients": [
            _ingredient(each, number)
            for number, (each, own) in enumerate(zip(provenance.ingredients, kept, strict=True))
            if not own
        ],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [created, *([placed] if shown else [])]},
                "created": True,
            },
            {
                "label": RENDER,
                "data": {name: value for name, value in facts.items() if value is not None},
                "created": True,
            },
        ],
    }


def _label(ingredient: Ingredient, number: int) -> str:
    return f"{ingredient.role}-{number}"


def _ingredient(ingredient: Ingredient, number: int) -> dict[str, Any]:
    return {
        "title": ingredient.name,
        "format": EMBEDDED.get(Path(ingredient.name).suffix.lower(), _OTHER),
        "relationship": "componentOf" if ingredient.is_shown else "inputTo",
        "description": f"{ingredient.role}, sha256 {ingredient.sha256}",
        "label": _label(ingredient, number),
        "instance_id": f"{_label(ingredient, number)}:{ingredient.sha256}",
    }


@cache
def sfumato_version() -> str:
    """Return this package's version."""
    try:
        return version("sfumato")
    except PackageNotFoundError:  # a source tree on PYTHONPATH
        return "unknown"
