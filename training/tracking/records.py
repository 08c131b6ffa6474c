"""Records of a training run, as plain data: created by workers, queued on disk, delivered to MLflow."""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError


@dataclass(frozen=True)
class Metrics:
    """Values at one step."""

    step: int
    values: Mapping[str, float]
    timestamp_ms: int
    """Time of measurement, milliseconds since 1970."""
    kind: Literal["metrics"] = "metrics"


@dataclass(frozen=True)
class Tags:
    """Tags of the run; a later one replaces an earlier one of the same name."""

    values: Mapping[str, str]
    kind: Literal["tags"] = "tags"


@dataclass(frozen=True)
class Params:
    """The configuration. MLflow keeps the first value of each name."""

    values: Mapping[str, str]
    kind: Literal["params"] = "params"


@dataclass(frozen=True)
class Lineage:
    """The data set of a run."""

    url: str
    digest: str
    kind: Literal["lineage"] = "lineage"


@dataclass(frozen=True)
class Text:
    """A text file of the run."""

    file: str
    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Picture:
    """A picture of the run."""

    file: str
    png: str
    """Base64."""
    kind: Literal["picture"] = "picture"

    @staticmethod
    def of(file: str, image: UInt8[np.ndarray, "height width 3"]) -> "Picture":
        """Encode an image as PNG."""
        sink = io.BytesIO()
        Image.fromarray(image).save(sink, "PNG")
        return Picture(file, base64.b64encode(sink.getvalue()).decode())

    def image(self) -> Image.Image:
        """Decode the PNG."""
        return Image.open(io.BytesIO(base64.b64decode(self.png)), formats=("PNG",))


@dataclass(frozen=True)
class Files:
    """Files to log by name; they must stay where they are until delivery, as a record does not hold their content."""

    folder: str
    """Path or URL."""
    names: tuple[str, ...]
    artifact: str
    """Folder of the run's artifacts to put them in."""
    kind: Literal["files"] = "files"


@dataclass(frozen=True)
class Registration:
    """Registers the run's bundle as a version of the registered model."""

    artifact: str
    version: str
    """sha256 of the bundle's manifest: the same bundle is registered once."""
    description: str
    tags: Mapping[str, str]
    timestamp_ms: int
    """When the run finished: the alias `champion` points to the newest version."""
    kind: Literal["registration"] = "registration"


@dataclass(frozen=True)
class Status:
    """Status of the run."""

    status: Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
    timestamp_ms: int
    kind: Literal["status"] = "status"


Record = Metrics | Tags | Params | Lineage | Text | Picture | Files | Registration | Status
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def sample_picture(step: int, image: UInt8[np.ndarray, "height width 3"]) -> Picture:
    """Return the record of a grid of samples; names of files sort by step."""
    return Picture.of(f"samples/step-{step:07d}.png", image)


def encode(records: Iterable[Record]) -> bytes:
    """Encode records as JSON lines; NaN and infinity are preserved."""
    return "".join(json.dumps(asdict(record)) + "\n" for record in records).encode()


def decode(data: bytes, name: str) -> list[Record]:
    """Decode the output of `encode`.

    Raises:
        ValueError: `data` holds no records; the message contains `name`.
    """
    try:
        return [_ADAPTER.validate_python(json.loads(line)) for line in data.splitlines()]
    except (ValidationError, ValueError) as error:
        raise ValueError(f"{name} holds no records of a run: {type(error).__name__}") from None
