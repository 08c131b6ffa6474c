from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pipelines import storage
from pipelines.dataset.schema import ClipKey
from pipelines.planning.plan import MISSING, PlannedClip
from pipelines.preprocess.process_clips import local_file
from pipelines.preprocess.quality import ClipRejected, RejectReason


def clip(source: str, num_bytes: int) -> PlannedClip:
    return PlannedClip(ClipKey("i", "v", "0"), source, num_bytes, "train", 0)


@pytest.fixture(params=["local", "remote"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder, here or in a store, with a film of three bytes and a folder of two frames of three bytes each."""
    root = str(tmp_path) if request.param == "local" else f"memory://{uuid4().hex}"
    for name in ("film.mp4", "frames/1.png", "frames/2.png"):
        storage.write_bytes(storage.join(root, name), b"123")
    yield root
    storage.remove(root, recursive=True)


def test_a_folder_of_frames_is_provided_whole(corpus: str) -> None:
    with local_file(clip("frames/", 6), corpus) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["1.png", "2.png"]
    with (
        pytest.raises(OSError, match="its pictures have 6 bytes, and had 7 when"),
        local_file(clip("frames/", 7), corpus),
    ):
        pass


def test_a_file_that_was_missing_is_taken_if_it_is_there_now(corpus: str) -> None:
    with local_file(clip("film.mp4", MISSING), corpus) as path:
        assert path.read_bytes() == b"123"
    with pytest.raises(ClipRejected) as caught, local_file(clip("gone.mp4", MISSING), corpus):
        pass
    assert (caught.value.reason, caught.value.reason.status) == (RejectReason.MISSING, "failed")
    with pytest.raises(OSError, match="it has 3 bytes, and had 4"), local_file(clip("film.mp4", 4), corpus):
        pass
