import pytest

from pipelines.one_line import hide_credentials, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/a.mp4?X-Amz-Signature=0f&x=1/2", "https://host/a.mp4"),
        ("no face in http://host/a.mp4?sig=a%2Fb: told", "no face in http://host/a.mp4: told"),
        ("'https://host/a.mp4?sig=1#part' and https://h/b?c=d, too.", "'https://host/a.mp4' and https://h/b, too."),
        ('{"where": "https://host/a?sig=1"}', '{"where": "https://host/a"}'),
        ("postgresql://user:word@host/db", "postgresql://host/db"),
        ("https://user:w@rd@host/a", "https://host/a"),
        # None of these is a secret.
        ("gs://bucket/what?.mp4", "gs://bucket/what?.mp4"),
        ("/data/a?b.mp4 of me@home.org", "/data/a?b.mp4 of me@home.org"),
        ("https://host/a@b.mp4", "https://host/a@b.mp4"),
    ],
)
def test_signatures_and_passwords_are_hidden(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown
    assert one_line(f"{text}\n") == shown
