"""Silence of native libraries: nothing gets through within the block, all of it after."""

import os

import pytest

from pipelines.native_logs import quiet_native_logs


def test_what_a_library_writes_to_descriptor_2_is_dropped_within_the_block_only(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with quiet_native_logs():
        os.write(2, b"noise\n")
    os.write(2, b"news\n")
    assert capfd.readouterr().err == "news\n"


def test_errors_still_raise_and_bring_the_descriptor_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), quiet_native_logs():
        raise ValueError("broken")
    os.write(2, b"news\n")
    assert capfd.readouterr().err == "news\n"
