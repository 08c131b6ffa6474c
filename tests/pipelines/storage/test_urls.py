from pipelines import storage


def test_join_keeps_one_slash() -> None:
    assert storage.join("gs://bucket/a/", "b", "c") == "gs://bucket/a/b/c"
    assert storage.join("/", "b") == "/b"
    assert storage.join("here") == "here"
