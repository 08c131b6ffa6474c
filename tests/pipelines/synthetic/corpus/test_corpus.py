import json
from pathlib import Path

import pytest

from pipelines.synthetic.corpus.corpus import (
    CorpusConfig,
    complete_clips,
    motion_note,
    plan_clips,
    start_corpus,
    write_manifest,
)


def test_clips_are_named_as_voxceleb2_names_its_own() -> None:
    config = CorpusConfig(identities=2, videos=2, clips=2)
    assert [spec.url("out") for spec in plan_clips(config)] == [
        "out/id20001/v0001/00001.mp4",
        "out/id20001/v0001/00002.mp4",
        "out/id20001/v0002/00001.mp4",
        "out/id20001/v0002/00002.mp4",
        "out/id20002/v0001/00001.mp4",
        "out/id20002/v0001/00002.mp4",
        "out/id20002/v0002/00001.mp4",
        "out/id20002/v0002/00002.mp4",
    ]
    assert config.num_clips == 8


def test_videos_of_a_paired_corpus_are_motions() -> None:
    config = CorpusConfig(identities=3, videos=2, paired=True)
    assert [str(spec.key) for spec in plan_clips(config)] == [
        f"id2000{identity}/m000{motion}/00001" for identity in (1, 2, 3) for motion in (1, 2)
    ]


@pytest.mark.slow
def test_no_identity_has_the_name_of_one_of_voxcelebs() -> None:
    published = Path("pipelines/planning/data/voxceleb_test_identities.txt").read_text().split()
    names = {spec.key.identity for spec in plan_clips(CorpusConfig(identities=12_000, videos=1))}
    assert len(names) == 12_000
    assert not names & set(published)
    assert min(names) > "id11251"  # VoxCeleb's last


def test_frames_are_counted_from_seconds() -> None:
    assert CorpusConfig(seconds=4.0).num_frames == 100
    assert CorpusConfig(seconds=0.5, fps=30).num_frames == 15


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"identities": 0}, "identities must be 1 to 79999, got 0"),
        ({"videos": 10_000}, "videos must be 1 to 9999, got 10000"),
        ({"clips": -1}, "clips must be 1 to 99999, got -1"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"size": 255}, "size must be an even number of 64 to 1024 pixels, got 255"),
        ({"size": 32}, "got 32"),
        ({"seconds": 0.0}, "a clip must have a frame and at most 10,000,000, got 0.0 s at 25 fps"),
        ({"seconds": float("inf")}, "got inf s"),
        ({"paired": True, "clips": 2}, "one clip of each identity and motion, got clips 2"),
    ],
)
def test_values_out_of_range_are_shown(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError) as error:
        CorpusConfig(**wrong)
    assert message in str(error.value)


def test_other_settings_in_the_same_folder_are_refused_with_the_difference(tmp_path: Path) -> None:
    out = str(tmp_path / "corpus")
    start_corpus(out, CorpusConfig(identities=2), "aa")
    start_corpus(out, CorpusConfig(identities=2), "aa")
    with pytest.raises(ValueError, match=r"other settings: seed 0 -> 3; size 256 -> 128\. Take the same flags"):
        start_corpus(out, CorpusConfig(identities=2, size=128, seed=3), "aa")
    with pytest.raises(ValueError, match="tracks_sha256 aa -> bb"):
        start_corpus(out, CorpusConfig(identities=2), "bb")


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"is no synthetic corpus, it holds .*clip\.mp4"):
        start_corpus(str(tmp_path), CorpusConfig(), "")
    with pytest.raises(ValueError, match=r"clip\.mp4 is a file"):
        start_corpus(str(tmp_path / "clip.mp4"), CorpusConfig(), "")
    (tmp_path / "config.json").write_text('{"model": 3}')
    with pytest.raises(ValueError, match=r"config\.json is not the config of a synthetic corpus"):
        start_corpus(str(tmp_path), CorpusConfig(), "")


def test_what_a_killed_start_left_is_no_other_thing(tmp_path: Path) -> None:
    (tmp_path / ".partial-abc").write_bytes(b"{")
    start_corpus(str(tmp_path), CorpusConfig(), "")
    assert (tmp_path / "config.json").exists()


def test_a_clip_without_truth_and_truth_without_a_clip_are_not_whole(tmp_path: Path) -> None:
    folder = tmp_path / "id20001" / "v0001"
    folder.mkdir(parents=True)
    for name in ("00001.mp4", "00001.parquet", "00002.mp4", "00003.parquet", ".partial-1"):
        (folder / name).write_bytes(b"x")
    assert complete_clips(str(tmp_path)) == {f"{folder}/00001.mp4"}


def test_manifest_counts_and_is_left_alone_when_nothing_was_made(tmp_path: Path) -> None:
    config = CorpusConfig(identities=2, videos=3, clips=2, seconds=2.0, motion="procedural")
    start_corpus(str(tmp_path), config, "")
    (tmp_path / ".partial-1").write_bytes(b"x")
    manifest = write_manifest(str(tmp_path), config, num_frames_now=600, seconds=12.0)
    assert manifest["counts"] == {"identities": 2, "videos": 6, "clips": 12, "frames": 600}
    assert manifest["film_seconds"] == 24
    assert manifest["last_run"] == {"frames": 600, "seconds": 12.0, "frames_per_second": 50.0}
    assert manifest["config"]["videos"] == 3
    assert "CC0" in manifest["licence"]
    assert manifest["motion"] == "procedural"
    assert not (tmp_path / ".partial-1").exists()
    assert json.loads((tmp_path / "corpus.json").read_text()) == manifest
    assert write_manifest(str(tmp_path), config, num_frames_now=0, seconds=0.1) == manifest


def test_a_corpus_with_motion_of_clips_names_them_and_their_licences() -> None:
    note = motion_note("clips")
    assert "clip_langer (MIT package, Pexels clip)" in note
    assert "clip_cap13" in note
