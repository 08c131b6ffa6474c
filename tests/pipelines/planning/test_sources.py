import io
import tarfile
from pathlib import Path

import pytest

from pipelines.dataset.schema import ClipKey
from pipelines.planning.corpus_files import corpus_root
from pipelines.planning.sources import WHOLE_VIDEO, BoxFile, Source, find_sources


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 7)


def sources(src: Path, layout: str = "auto") -> list[Source]:
    return [item for item in find_sources(str(src), layout) if isinstance(item, Source)]  # type: ignore[arg-type]


def keys(src: Path, layout: str = "auto") -> list[str]:
    return [str(source.key) for source in sources(src, layout)]


def test_in_a_flat_folder_each_video_is_a_person(tmp_path: Path) -> None:
    put(tmp_path, "b.mp4", "a.MOV", "notes.txt", ".hidden.mp4", "._a.mov")
    found = [(str(s.key), s.relative, s.num_bytes) for s in sources(tmp_path)]
    assert found == [("a/a/0", "a.MOV", 7), ("b/b/0", "b.mp4", 7)]


def test_a_flat_video_has_a_longer_name_in_reserve(tmp_path: Path) -> None:
    put(tmp_path, "x/a.mp4")
    assert [(s.key.identity, s.fallback) for s in sources(tmp_path, "flat")] == [("x_a", "x_a.mp4")]


def test_voxceleb_trees_are_recognised_at_any_depth_and_their_test_folder_is_held_out(tmp_path: Path) -> None:
    put(tmp_path, "dev/mp4/id00012/vid-A/00001.mp4", "test/mp4/id00017/vid-B/00002.mp4")
    found = [(str(s.key), s.split) for s in sources(tmp_path)]
    assert found == [("id00012/vid-A/00001", None), ("id00017/vid-B/00002", "test")]


def test_voxcelebs_boxes_belong_to_their_clips(tmp_path: Path) -> None:
    put(tmp_path, "mp4/id00012/vid/00001.mp4", "txt/id00012/vid/00001.txt", "readme.txt")
    found = list(find_sources(str(tmp_path)))
    assert [item for item in found if isinstance(item, BoxFile)] == [
        BoxFile(ClipKey("id00012", "vid", "00001"), "txt/id00012/vid/00001.txt")
    ]


def test_the_truth_beside_synthetic_clips_is_no_source(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "corpus.json", "id20001/m0001/00001.mp4", "id20001/m0001/00001.parquet")
    put(tmp_path, "id20002/m0001/00001.parquet", "id20002/m0002/00001.mp4")
    found = list(find_sources(str(tmp_path)))
    assert [str(item.key) for item in found] == ["id20001/m0001/00001", "id20002/m0002/00001"]
    assert all(isinstance(item, Source) for item in found)


def test_a_whole_video_waits_to_be_cut_by_its_boxes(tmp_path: Path) -> None:
    put(tmp_path, "videos/id10270/zjwijMp0Qyw.mp4", "txt/id10270/zjwijMp0Qyw/00001.txt")
    assert [s.key for s in sources(tmp_path)] == [ClipKey("id10270", "zjwijMp0Qyw", WHOLE_VIDEO)]


def test_three_levels_are_identity_video_clip(tmp_path: Path) -> None:
    put(tmp_path, "ann/talk/1.mp4", "bob/talk/1.mp4")
    assert keys(tmp_path) == ["ann/talk/1", "bob/talk/1"]
    assert keys(tmp_path, "flat") == ["ann_talk_1/ann_talk_1/0", "bob_talk_1/bob_talk_1/0"]


def test_a_layout_that_does_not_fit_names_the_file(tmp_path: Path) -> None:
    put(tmp_path, "ann/talk/1.mp4", "stray.mp4")
    with pytest.raises(ValueError, match=r"stray\.mp4"):
        keys(tmp_path, "voxceleb")


def test_a_members_place_in_a_tar_is_where_its_bytes_are(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "part-1.tar", "w") as tar:
        for name, content in (("./id00012/vid/00001.mp4", b"first clip"), ("id00012/vid/00002.mp4", b"second")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("id00012/vid/00003.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    raw = (tmp_path / "part-1.tar").read_bytes()
    for src in (tmp_path, tmp_path / "part-1.tar"):
        found = sources(src)
        assert [str(s.key) for s in found] == ["id00012/vid/00001", "id00012/vid/00002"]
        assert [s.location for s in found] == ["part-1.tar", "part-1.tar"]
        assert found[0].offset is not None
        assert found[1].offset is not None
        assert raw[found[0].offset :][: found[0].num_bytes] == b"first clip"
        assert raw[found[1].offset :][: found[1].num_bytes] == b"second"
        assert corpus_root(str(src)) == str(tmp_path)


@pytest.mark.parametrize("damage", ["compressed", "cut", "text"])
def test_a_tar_that_cannot_be_read_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "clips.tar"
    with tarfile.open(path, "w:gz" if damage == "compressed" else "w") as tar:
        info = tarfile.TarInfo("a.mp4")
        info.size = 5000
        tar.addfile(info, io.BytesIO(bytes(5000)))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    if damage == "text":
        path.write_text("hello")
    with pytest.raises(ValueError, match=r"clips\.tar is not an uncompressed tar, or a broken one"):
        keys(path)


def test_compressed_archives_are_pointed_out(tmp_path: Path) -> None:
    put(tmp_path, "vox2_mp4_1.zip", "vox2_mp4_2.tar.gz")
    with pytest.raises(ValueError, match=r"2 compressed archives are not read: unpack them, or repack as \.tar"):
        keys(tmp_path)


def test_a_folder_without_videos_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match="no video"):
        keys(tmp_path)
    with pytest.raises(ValueError, match="neither"):
        keys(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        keys(tmp_path / "nowhere")


def test_one_video_is_a_corpus(tmp_path: Path) -> None:
    put(tmp_path, "one.mp4")
    assert keys(tmp_path / "one.mp4") == ["one/one/0"]
    assert corpus_root(str(tmp_path / "one.mp4")) == str(tmp_path)


def test_a_name_that_no_text_can_hold_is_refused_readably(tmp_path: Path) -> None:
    put(tmp_path, "a\udcff.mp4")
    with pytest.raises(ValueError, match=r"a\\udcff\.mp4 is no valid UTF-8 name"):
        keys(tmp_path)


def test_names_that_keys_cannot_hold_are_written_in_hex_and_long_ones_are_shortened(tmp_path: Path) -> None:
    put(tmp_path, "new\nline.mp4", "100%.mp4", "-y $(x) 'q' %d.mp4", "ü" * 120 + ".mp4")
    found = keys(tmp_path)
    assert found == [
        "-y $(x) 'q' %25d/-y $(x) 'q' %25d/0",
        "100%25/100%25/0",
        "new%0Aline/new%0Aline/0",
        f"{'ü' * 120}/{'ü' * 120}/0",
    ]
