import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

import sfumato
from pipelines import storage
from pipelines.storage import retries
from pipelines.storage.retries import is_transient, retrying


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", slept.append)
    return slept


class Refused(Exception):
    """As gcsfs's HttpError."""

    def __init__(self, code: int | str) -> None:
        super().__init__(f"busy\nreally, {code}")
        self.code = code


Refused.__module__ = "gcsfs.retry"


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = iter(range(times))

    def act() -> str:
        if next(left, None) is not None:
            raise error
        return "done"

    return act


@pytest.mark.parametrize(
    "error", [Refused(429), Refused("503"), Refused(500), TimeoutError(), ConnectionResetError("reset")]
)
def test_what_passes_is_waited_for_longer_each_time(error: Exception, pauses: list[float]) -> None:
    assert retrying("gs://b/f", failing(3, error)) == "done"
    assert [0.25 <= pauses[0] <= 0.75, 0.5 <= pauses[1] <= 1.5, 1 <= pauses[2] <= 3] == [True] * 3
    assert len(pauses) == 3


def test_what_stays_is_one_line_that_names_the_url(pauses: list[float]) -> None:
    with pytest.raises(OSError, match=r"^gs://b/f: storage request failed, 5 times: Refused: busy really, 503$"):
        retrying("gs://b/f", failing(9, Refused(503)))
    assert len(pauses) == 4


def test_what_cannot_pass_is_not_tried_again(pauses: list[float]) -> None:
    with pytest.raises(OSError, match=r"^gs://b/f: storage request failed: Refused: busy really, 403$"):
        retrying("gs://b/f", failing(1, Refused(403)))
    with pytest.raises(FileNotFoundError, match="gs://b/f") as missing:
        retrying("gs://b/f", failing(1, FileNotFoundError("b/f")))
    assert missing.value.strerror == "No such file or directory"
    with pytest.raises(KeyError):  # a mistake of ours is not the store's
        retrying("gs://b/f", failing(1, KeyError("x")))
    assert pauses == []


def test_a_filesystem_that_retries_itself_is_only_asked_again_after_a_timeout(pauses: list[float]) -> None:
    with pytest.raises(OSError, match="storage request failed: Refused"):
        retrying("gs://b/f", failing(1, Refused(503)), retries_itself=True)
    assert pauses == []
    assert retrying("gs://b/f", failing(1, TimeoutError()), retries_itself=True) == "done"


def test_only_some_codes_pass() -> None:
    assert [is_transient(Refused(code)) for code in (408, 429, 500, 502, 503, 504)] == [True] * 6
    assert [is_transient(Refused(code)) for code in (400, 401, 403, 404, 412, 501)] == [False] * 6
    assert not is_transient(PermissionError("no"))


@contextmanager
def busy_server(refusals: int, code: int) -> Iterator[tuple[str, list[str]]]:
    """Serves 0123456789 below any name, after some refusals; counts the requests."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) <= refusals:
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, last = (int(n) for n in self.headers.get("Range", "bytes=0-9").removeprefix("bytes=").split("-"))
            body = b"0123456789"[first : last + 1]
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/file", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("code", [429, 503])
def test_reads_over_http_outlast_a_busy_server(code: int) -> None:
    with busy_server(2, code) as (url, asked):
        assert storage.read_bytes(url) == b"0123456789"
        assert len(asked) == 3
    with busy_server(2, code) as (url, _):
        assert storage.ranges([url, url], [8, 0], [2, 3]) == [b"89", b"012"]


def test_a_server_that_stays_busy_is_named(pauses: list[float]) -> None:
    with (
        busy_server(99, 503) as (url, asked),
        pytest.raises(OSError, match=rf"^{url}: storage request failed, 5 times: "),
    ):
        storage.read_bytes(url)
    assert len(asked) == 5


@pytest.fixture
def impatient_gcsfs(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """gcsfs without its half minute of pauses; set STORAGE_EMULATOR_HOST with it."""
    import gcsfs.retry

    async def no_pause(seconds: float) -> None: ...

    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=no_pause))
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield monkeypatch
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.mark.slow  # imports gcsfs
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_gcsfs_outlasts_a_busy_store_by_itself(impatient_gcsfs: pytest.MonkeyPatch, pauses: list[float]) -> None:
    with busy_server(2, 503) as (url, asked):
        impatient_gcsfs.setenv("STORAGE_EMULATOR_HOST", url.removesuffix("/file"))
        assert storage.ranges(["gs://bucket/file"], [2], [3]) == [b"234"]
    assert len(asked) == 3
    assert pauses == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_store_that_stays_busy_is_one_line_and_nothing_else(
    impatient_gcsfs: pytest.MonkeyPatch, pauses: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    with busy_server(99, 503) as (url, asked):
        impatient_gcsfs.setenv("STORAGE_EMULATOR_HOST", url.removesuffix("/file"))
        assert sfumato.main(["bench", "loader", "--data", "gs://bucket/set"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        "sfumato bench loader: error: gs://bucket/set/dataset.json: storage request failed: HttpError"
    )
    assert len(asked) == 6  # its own six tries, not five times as many
    assert pauses == []
