import multiprocessing
import signal
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pipelines import storage
from pipelines.media.video import decode
from pipelines.synthetic.corpus.clip_file import encode_clip
from pipelines.synthetic.corpus.corpus import ClipSpec, CorpusConfig, complete_clips, plan_clips
from pipelines.synthetic.corpus.ground_truth import read_truth
from pipelines.synthetic.corpus.render_clips import (
    ClipRenderer,
    RenderSettings,
    _sigint_blocked,
    draw_clip,
    render_clips,
)

SMALL = CorpusConfig(identities=3, videos=2, seconds=0.48, size=64, motion="procedural")
PAIRED = CorpusConfig(identities=3, videos=2, seconds=0.48, size=64, motion="procedural", paired=True)


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def render_all(out: Path | str, renderer: type, workers: int = 1, config: CorpusConfig = SMALL) -> int:
    settings = RenderSettings(str(out), config, (), renderer)
    return sum(clip.num_frames for clip in render_clips(plan_clips(config), settings, workers))


def test_a_clip_shows_its_person_in_its_scene_and_has_its_truth(tmp_path: Path, renderers: ModuleType) -> None:
    spec = ClipSpec(2, 1, 1)
    rendered = ClipRenderer(RenderSettings(str(tmp_path), SMALL, (), renderers.SquareRenderer))(spec)
    assert (rendered.spec, rendered.num_frames) == (spec, 12)
    truth = read_truth(spec.url(str(tmp_path)))
    frames = [frame.image for frame in decode(spec.url(str(tmp_path)))]
    assert len(frames) == len(truth.points) == len(truth.actions) == 12
    for image, points, angles in zip(frames, truth.points, truth.angles, strict=True):
        bright = np.argwhere(image.min(axis=2) > 150).mean(axis=0)[::-1]
        assert np.abs(bright - points[0]).max() < 2  # the renderer puts the square where the pose says
        np.testing.assert_allclose(points[0], 32 + angles[:2] * 0.64, atol=1e-4)
        assert abs(float(image[2, 2, 0]) - 40) < 12  # red: identity 2; green: video 1
        assert abs(float(image[2, 2, 1]) - 40) < 12


def test_scenes_decide_how_well_a_clip_is_encoded(tmp_path: Path, renderers: ModuleType) -> None:
    spec = ClipSpec(1, 1, 1)
    person, scene, motion = draw_clip(spec, SMALL, ())
    ClipRenderer(RenderSettings(str(tmp_path), SMALL, (), renderers.SquareRenderer))(spec)
    images = [
        image
        for part in renderers.SquareRenderer(64).render_clip(person, scene, motion)
        for image in part.images.numpy()
    ]
    assert storage.read_bytes(spec.url(str(tmp_path))) == encode_clip(iter(images), 64, 25, scene.crf)


def test_cast_is_a_pure_function_of_seed_and_numbers() -> None:
    (_, _, one), (_, _, same), (_, _, clip), (_, _, video) = (
        draw_clip(ClipSpec(*numbers), SMALL, ()) for numbers in ((1, 1, 1), (1, 1, 1), (1, 1, 2), (1, 2, 1))
    )
    np.testing.assert_array_equal(one.actions, same.actions)
    assert not np.array_equal(one.angles, clip.angles)
    assert not np.array_equal(one.angles, video.angles)
    people = [draw_clip(ClipSpec(1, video, 1), SMALL, ())[0] for video in (1, 2)]
    np.testing.assert_array_equal(people[0].phenotype, people[1].phenotype)
    scenes = [draw_clip(ClipSpec(1, video, clip), SMALL, ())[1].seed for video, clip in ((1, 1), (1, 2), (2, 1))]
    assert scenes[0] == scenes[1] != scenes[2]


def test_paired_identities_do_the_same_motions_each_in_one_scene() -> None:
    table = {(i, m): draw_clip(ClipSpec(i, m, 1, paired=True), PAIRED, ()) for i in (1, 2, 3) for m in (1, 2)}
    for m in (1, 2):
        for part in ("actions", "angles", "travel"):
            for i in (2, 3):
                np.testing.assert_array_equal(getattr(table[i, m][2], part), getattr(table[1, m][2], part))
    assert not np.array_equal(table[1, 1][2].angles, table[1, 2][2].angles)
    assert len({table[i, m][1].seed for i in (1, 2, 3) for m in (1, 2)}) == 3
    assert table[2, 1][1].seed == table[2, 2][1].seed


def test_paired_truths_agree_in_pose_and_actions_frame_by_frame(tmp_path: Path, renderers: ModuleType) -> None:
    assert render_all(tmp_path, renderers.SquareRenderer, config=PAIRED) == 72
    truths = [read_truth(f"{tmp_path}/id2000{i}/m0002/00001.mp4") for i in (1, 2, 3)]
    for truth in truths[1:]:
        np.testing.assert_array_equal(truth.angles, truths[0].angles)
        np.testing.assert_array_equal(truth.actions, truths[0].actions)
        np.testing.assert_array_equal(truth.travel, truths[0].travel)


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, renderers: ModuleType) -> None:
    for name in ("a", "b"):
        render_all(tmp_path / name, renderers.SquareRenderer)
    assert len(files(tmp_path / "a")) == 12
    assert files(tmp_path / "a") == files(tmp_path / "b")
    render_all(tmp_path / "c", renderers.SquareRenderer, config=CorpusConfig(**{**vars(SMALL), "seed": 1}))
    assert not set(files(tmp_path / "a").values()) & set(files(tmp_path / "c").values())


def test_clips_can_lie_on_any_store(renderers: ModuleType) -> None:
    render_all("memory://corpus", renderers.SquareRenderer)
    assert len(complete_clips("memory://corpus")) == 6
    assert read_truth("memory://corpus/id20003/v0002/00001.mp4").points.shape == (12, 68, 2)


def test_an_error_leaves_complete_clips_only(tmp_path: Path, renderers: ModuleType) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(OSError, match="No space left"):
        render_all(tmp_path, renderers.FailingRenderer)
    assert len(complete_clips(str(tmp_path))) == 2
    assert len(files(tmp_path)) == 4
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one(tmp_path: Path, renderers: ModuleType) -> None:
    assert (
        render_all(tmp_path / "one", renderers.SquareRenderer)
        == render_all(tmp_path / "two", renderers.SquareRenderer, 2)
        == 72
    )
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_in_one_line(tmp_path: Path, renderers: ModuleType) -> None:
    with pytest.raises(OSError, match=r"a worker was killed, .* run again with fewer --workers"):
        render_all(tmp_path, renderers.DyingRenderer, workers=2)
    assert not files(tmp_path)
    assert not multiprocessing.active_children()


def test_processes_that_start_inside_do_not_hear_ctrl_c() -> None:
    with _sigint_blocked():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
