"""Which split a film belongs to by its folders, by a data set's lists of films, or by a list of test identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines import storage
from pipelines.planning.corpus_files import corpus_root
from pipelines.planning.layouts import SPLIT_FOLDERS, TRAIN, Layout

_PUBLISHED_LISTS = Path(__file__).parent / "data" / "voxceleb_test_identities.txt"
_HELD_OUT_FIRST = ("test", "val", TRAIN)
_NOTHING: Mapping[str, str] = {}


def is_split_folder(name: str) -> bool:
    """Whether a folder of this name, or a tar, is a split and not a person."""
    return name.casefold().removesuffix(".tar") in SPLIT_FOLDERS


def split_of_folders(folders: Sequence[str], more: Mapping[str, str] = _NOTHING) -> str | None:
    """Return the split that one of the folders stands for: `test` before `val` before `layouts.TRAIN`; else None.

    Args:
        more: further names of folders, in small letters.
    """
    found = set()
    for folder in folders:
        name = folder.casefold().removesuffix(".tar")
        found.add(more.get(name) or SPLIT_FOLDERS.get(name))
    return next((split for split in _HELD_OUT_FIRST if split in found), None)


@dataclass(frozen=True)
class ListedSplits:
    """The splits of the films that a data set's own lists name: FOLDER/NAME -> split."""

    splits: Mapping[str, str]

    @classmethod
    def read(cls, src: str, layout: Layout) -> ListedSplits:
        """Read the lists that are there, in `src` or beside it. Raises ValueError for one that is no text."""
        splits: dict[str, str] = {}
        root = corpus_root(src)
        for name, split in layout.lists.items():
            url = storage.join(root, name)
            if not storage.exists(url):
                continue
            for line in read_text(url).splitlines():
                if words := line.split():
                    splits[words[0]] = split
        return cls(splits)

    def split_of(self, stem: str) -> str | None:
        """Return the split of the film with this path without suffix; None if no list names it."""
        return self.splits.get("/".join(PurePosixPath(stem).parts[-2:])) if self.splits else None


def published_test_identities() -> frozenset[str]:
    """Return the test identities published with VoxCeleb1 and VoxCeleb2."""
    return _test_names(_PUBLISHED_LISTS.read_text()).names


@dataclass(frozen=True)
class TestList:
    """The identities of a list to hold out."""

    url: str
    names: frozenset[str]
    is_table: bool
    """Whether it is a table of a whole data set, of which a corpus may have a part, and not a list of names."""


def read_test_list(url: str) -> TestList:
    """Read identities to hold out: a text file with one a line, or VoxCeleb's own `vox1_meta.csv` or `vox2_meta.csv`,
    whose last column is `dev` or `test`. Lines that begin with `#` are comments.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not text, or names no identity.
    """
    try:
        found = _test_names(read_text(url), url)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url} does not exist") from error
    if not found.names:
        raise ValueError(f"{url} names no test identity")
    return found


def _test_names(text: str, url: str = "") -> TestList:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    rows = [[word.strip() for word in line.replace(",", "\t").split("\t")] for line in lines]
    if any(len(words) > 1 and words[-1].lower() in ("dev", "test") for words in rows):
        return TestList(url, frozenset(words[0] for words in rows if words[-1].lower() == "test"), True)
    return TestList(url, frozenset(lines), False)


def read_text(url: str) -> str:
    """Return a UTF-8 text, with or without byte order mark. Raises ValueError naming `url` when it is none."""
    try:
        return storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{url} is not UTF-8 text: {error.reason} at byte {error.start}") from error
