import pytest

from pipelines import storage


def test_join_keeps_one_slash() -> None:
    assert storage.join("gs://bucket/a/", "b", "c") == "gs://bucket/a/b/c"
    assert storage.join("/", "b") == "/b"
    assert storage.join("here") == "here"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/mona%20lisa.jpg", "mona%20lisa.jpg"),
        ("gs://bucket/people/mona.jpg?", "mona.jpg?"),
        ("gs://bucket/people/", "people"),
        ("https://host/a%20b.jpg?sig=1/2.png#x", "a b.jpg"),
        ("https://host/..%2F..%2Fetc%2Fpasswd", "passwd"),
    ],
)
def test_the_name_of_a_url_is_without_its_query(url: str, name: str) -> None:
    assert storage.name(url) == name
