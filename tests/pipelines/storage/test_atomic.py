import pytest

from pipelines import storage


def test_a_failed_write_leaves_the_old_file_and_nothing_else(root: str) -> None:
    url = storage.join(root, "file")
    storage.write_bytes(url, b"old")
    with pytest.raises(RuntimeError), storage.atomic_write(url) as sink:  # noqa: PT012
        sink.write(b"new and half")
        raise RuntimeError
    assert storage.read_bytes(url) == b"old"
    assert storage.list(root) == [url]
