"""Renamed flags; usage errors are tested through the command, in tests/test_cli.py."""

import functools

import pytest

from pipelines.argument_parser import replace_renamed_flags


def test_old_spellings_of_flags_still_work_and_name_the_present_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    renamed = {"--tint": "--colour", "--background plain": "--no-frame", "--background default": ""}
    spell = functools.partial(replace_renamed_flags, "paint", renamed=renamed)
    assert spell(["a", "--tint", "red", "--tint=blue"]) == ["a", "--colour", "red", "--colour=blue"]
    assert spell(["--background", "plain", "x"]) == spell(["--background=plain", "x"]) == ["--no-frame", "x"]
    assert spell(["--background=default"]) == []
    assert spell(["--background", "odd", "--", "--tint"]) == ["--background", "odd", "--", "--tint"]
    capsys.readouterr()
    spell(["--tint", "red"])
    assert capsys.readouterr().err == "sfumato paint: note: --tint is deprecated, use --colour\n"
