"""What clients get to read."""

from __future__ import annotations

import errno

import pytest
import torch

from serving.service.errors import BadInput, Internal, ServiceError, StorageFull, as_service_error, public_reason

NAMES = {"/data/uploads/ab/picture-01.jpg": "picture 1", "/data/uploads/ab/picture-01": "picture"}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("/data/uploads/ab/picture-01.jpg: no face found", "picture 1: no face found"),
        ("cannot open /data/models/base/manifest.json: broken", "cannot open …: broken"),
        ("no answer from gs://secret-bucket/x today", "no answer from … today"),
        ("no answer from 10.1.2.3:8265 today", "no answer from … today"),
        ("frames at 30000/1001 of 640x360, and/or more", "frames at 30000/1001 of 640x360, and/or more"),
        ("first line\nTraceback: /usr/lib/python", "first line"),
        ("", "the input was refused"),
    ],
)
def test_a_reason_names_the_clients_file_and_no_address(message: str, shown: str) -> None:
    assert public_reason(ValueError(message), NAMES) == shown


def test_a_reason_is_never_long() -> None:
    assert len(public_reason(ValueError("x" * 5000), {})) == 300


@pytest.mark.parametrize("error", [RuntimeError("secret"), FileNotFoundError("/data/secret"), KeyError("secret")])
def test_only_value_errors_explain_themselves(error: Exception) -> None:
    assert "secret" not in public_reason(error, {})


def test_a_full_disk_is_told_as_such() -> None:
    assert isinstance(as_service_error(OSError(errno.ENOSPC, "No space left", "/data/x")), StorageFull)
    assert isinstance(as_service_error(OSError(errno.EIO, "I/O error", "/data/x")), Internal)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("Tried to allocate 2.00 GiB.")])
def test_86_too_little_memory_is_told_as_such(error: Exception) -> None:
    assert public_reason(error, {}) == "the server has too little memory for this; try again later"


def test_our_own_errors_pass_unchanged() -> None:
    error = BadInput("picture 1 is empty")
    assert as_service_error(error) is error


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    kinds = ServiceError.__subclasses__()
    assert len({kind.status for kind in kinds}) == len({kind.code for kind in kinds}) == len(kinds)
    assert all(400 <= kind.status < 600 for kind in kinds)
