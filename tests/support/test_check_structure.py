"""The limits that `make structure` holds the tree to."""

from check_structure import violations


def test_files_and_folders_within_the_limits_are_silent() -> None:
    assert violations({f"a/m{i}.py": 300 for i in range(15)} | {"a/__init__.py": 1}) == []


def test_a_file_of_301_lines_is_named() -> None:
    assert violations({"a/long.py": 301, "a/short.py": 2}) == ["a/long.py: 301 lines, at most 300"]


def test_a_folder_of_16_modules_is_named_and_others_are_not() -> None:
    files = {f"a/m{i}.py": 1 for i in range(16)} | {f"a/b/m{i}.py": 1 for i in range(15)}
    assert violations(files) == ["a/: 16 modules, at most 15"]
