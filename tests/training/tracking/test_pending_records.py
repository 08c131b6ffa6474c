from pathlib import Path

import pytest

from pipelines import storage
from training.tracking import pending_records as module
from training.tracking.pending_records import PendingRecords
from training.tracking.records import Record, Tags


def tag(name: str) -> Tags:
    return Tags({"name": name})


def drained(journal: PendingRecords) -> list[Record]:
    found: list[Record] = []
    while len(journal):
        found += journal.first()
        journal.drop_first()
    return found


@pytest.mark.parametrize("where", ["{tmp}/journal", "memory://{name}/journal"])
def test_another_process_finds_the_records_in_order(where: str, tmp_path: Path) -> None:
    url = where.format(tmp=tmp_path, name=tmp_path.name)
    journal = PendingRecords(url)
    journal.add([tag("a"), tag("b")])
    journal.add([tag("c")])
    again = PendingRecords(url)
    again.add([tag("d")])
    assert again.count() == 4
    assert drained(PendingRecords(url)) == [tag("a"), tag("b"), tag("c"), tag("d")]
    assert storage.list(url) == []


def test_small_records_share_a_file_and_large_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEGMENT_BYTES", 1000)
    journal = PendingRecords(str(tmp_path))
    for _ in range(30):  # 45 bytes a record
        journal.add([tag("a")])
    assert 2 <= len(journal) <= 3
    journal.add([tag("b" * 2000)])
    journal.add([tag("c")])
    assert 4 <= len(journal) <= 5
    assert drained(journal) == [tag("a")] * 30 + [tag("b" * 2000), tag("c")]


def test_what_comes_after_all_was_taken_is_a_new_file(tmp_path: Path) -> None:
    journal = PendingRecords(str(tmp_path))
    journal.add([tag("a")])
    assert drained(journal) == [tag("a")]
    journal.add([tag("b")])
    assert drained(PendingRecords(str(tmp_path))) == [tag("b")]


def test_a_damaged_segment_is_refused_by_name_and_can_be_set_aside(tmp_path: Path) -> None:
    journal = PendingRecords(str(tmp_path))
    journal.add([tag("a")])
    (segment,) = tmp_path.iterdir()
    segment.write_text("{")
    with pytest.raises(ValueError, match=segment.name):
        journal.first()
    kept = journal.copy_first_aside()
    journal.drop_first()
    assert Path(kept).read_text() == "{"
    assert not len(PendingRecords(str(tmp_path)))


def test_records_set_aside_do_not_come_back_and_are_not_overwritten(tmp_path: Path) -> None:
    PendingRecords(str(tmp_path)).set_aside([tag("a")])
    again = PendingRecords(str(tmp_path))
    assert not len(again)
    again.set_aside([tag("b")])
    assert len(list((tmp_path / "refused").iterdir())) == 2


def test_half_a_write_of_a_killed_process_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".partial-x").write_text("{")
    assert not len(PendingRecords(str(tmp_path)))
