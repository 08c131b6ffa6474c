"""In which order workers get tasks."""

from __future__ import annotations

from pipelines.faces.identity.face_choice import FaceChoice
from serving.batch.inputs import Input
from serving.batch.items import AvatarSource, AvatarTask, Item, MosaicTask, Task, VideoTask
from serving.batch.schedule import Schedule
from training.animation.render import RenderOptions

OPTIONS = RenderOptions()


def source(name: str) -> AvatarSource:
    return AvatarSource(Input("picture", f"/{name}.jpg", name, name))


def item(name: str) -> Item:
    """item("ann-1"): source ann, driver 1."""
    of, _, driver = name.partition("-")
    return Item(name, source(of), Input("driver", f"/{driver}.mp4", driver, driver), OPTIONS)


def schedule(*names: str) -> Schedule:
    return Schedule({item(name): name for name in names})


def name(task: Task | None) -> str | None:
    return task and task.name


def test_an_avatar_goes_to_one_worker_and_its_videos_wait_for_it() -> None:
    plan = schedule("ann-1", "ann-2")
    assert plan.next_task(0) == AvatarTask(source("ann"))
    assert plan.next_task(1) is None
    assert plan.has_tasks
    plan.avatar_made(source("ann"))
    assert name(plan.next_task(1)) == "ann-1"
    assert name(plan.next_task(0)) == "ann-2"
    assert plan.next_task(0) is None
    assert not plan.has_tasks


def test_a_worker_stays_with_its_avatar_then_takes_a_new_one_then_helps_where_most_is_left() -> None:
    plan = schedule("ann-1", "bob-1", "bob-2", "bob-3", "cyd-1")
    assert [name(plan.next_task(0)), name(plan.next_task(1))] == ["avatar ann", "avatar bob"]
    plan.avatar_made(source("bob"))
    plan.avatar_made(source("ann"))
    assert name(plan.next_task(0)) == "ann-1"
    assert name(plan.next_task(1)) == "bob-1"
    assert name(plan.next_task(0)) == "avatar cyd"
    plan.avatar_made(source("cyd"))
    assert name(plan.next_task(0)) == "cyd-1"
    assert name(plan.next_task(0)) == "bob-2"
    assert name(plan.next_task(0)) == "bob-3"


def test_a_mosaic_comes_before_the_next_avatar() -> None:
    plan = schedule("ann-1", "bob-1")
    plan.next_task(0)
    plan.avatar_made(source("ann"))
    plan.add_mosaic(MosaicTask("cyd.mosaic", "key", ()))
    assert [name(plan.next_task(0)) for _ in range(3)] == ["ann-1", "cyd.mosaic", "avatar bob"]


def test_two_faces_of_one_picture_are_two_avatars() -> None:
    first, second = item("ann-1"), item("ann-2")
    second = Item(second.name, AvatarSource(second.source.input, face=FaceChoice(1)), second.driver, OPTIONS)
    plan = Schedule({first: "1", second: "2"})
    assert plan.next_task(0) == AvatarTask(first.source)
    assert plan.next_task(1) == AvatarTask(second.source)


def test_an_avatar_that_fails_gives_its_videos_back() -> None:
    plan = schedule("ann-1", "ann-2", "bob-1")
    plan.next_task(0)
    assert [failed.name for failed in plan.avatar_failed(source("ann"))] == ["ann-1", "ann-2"]
    assert name(plan.next_task(0)) == "avatar bob"


def test_a_task_whose_worker_dies_is_tried_once_more() -> None:
    plan = schedule("ann-1", "ann-2")
    avatar = plan.next_task(0)
    assert avatar
    assert plan.lost(0, avatar)
    assert plan.next_task(1) == avatar
    plan.avatar_made(source("ann"))
    video = plan.next_task(1)
    assert video == VideoTask(item("ann-1"), "ann-1")
    assert video
    assert plan.lost(1, video)
    assert plan.next_task(0) == video
    assert not plan.lost(0, video)
    assert name(plan.next_task(0)) == "ann-2"


def test_a_task_is_not_blamed_for_lost_machines() -> None:
    plan = schedule("ann-1")
    avatar = plan.next_task(0)
    assert avatar
    for _ in range(5):
        assert plan.lost(0, avatar, lost_machine=True)
        assert plan.next_task(0) == avatar
    assert plan.lost(0, avatar)
    assert not plan.lost(0, avatar)


def test_an_avatar_or_a_mosaic_that_kills_two_workers_is_given_up() -> None:
    plan = schedule("ann-1")
    mosaic = MosaicTask("bob.mosaic", "key", ())
    plan.add_mosaic(mosaic)
    for task in (mosaic, AvatarTask(source("ann"))):
        assert plan.next_task(0) == task
        assert plan.lost(0, task)
        assert plan.next_task(0) == task
        assert not plan.lost(0, task)
    assert [failed.name for failed in plan.avatar_failed(source("ann"))] == ["ann-1"]
    assert not plan.has_tasks
