"""Which task a worker does next. One worker makes an avatar, and then its videos, while others make other avatars."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.batch.items import AvatarSource, AvatarTask, Item, MosaicTask, Task, VideoTask

MAX_LOSSES = 2
"""A task that is running when its worker dies is tried again; after so many dead workers it is given up."""


@dataclass
class _Group:
    """The videos of one avatar that no worker has begun."""

    waiting: deque[VideoTask] = field(default_factory=deque)
    is_ready: bool = False
    """Whether the avatar exists."""


class Schedule:
    """Hands out the tasks of a run. Not thread-safe: one loop asks for all workers."""

    def __init__(self, keys: Mapping[Item, str]) -> None:
        """Schedule the videos of `keys`, which maps items to the keys of their sidecars."""
        self._groups: dict[AvatarSource, _Group] = {}
        for item, key in keys.items():
            self._groups.setdefault(item.source, _Group()).waiting.append(VideoTask(item, key))
        self._new = deque(self._groups)
        self._mosaics: deque[MosaicTask] = deque()
        self._held: dict[int, AvatarSource] = {}
        self._losses: Counter[AvatarSource | str] = Counter()

    def next_task(self, worker: int) -> Task | None:
        """Return a task for an idle worker; None while there is none.

        In this order: a video of the avatar that the worker holds, a mosaic, a new avatar, a video of the avatar with
        the most videos left.
        """
        held = self._groups.get(self._held[worker]) if worker in self._held else None
        if held is not None and held.is_ready and held.waiting:
            return held.waiting.popleft()
        if self._mosaics:
            return self._mosaics.popleft()
        if self._new:
            self._held[worker] = self._new.popleft()
            return AvatarTask(self._held[worker])
        ready = [source for source, group in self._groups.items() if group.is_ready and group.waiting]
        if not ready:
            return None
        self._held[worker] = max(ready, key=lambda source: len(self._groups[source].waiting))
        return self._groups[self._held[worker]].waiting.popleft()

    @property
    def has_tasks(self) -> bool:
        """Whether tasks are left that no worker has begun."""
        return bool(self._new or self._mosaics or any(group.waiting for group in self._groups.values()))

    def avatar_made(self, source: AvatarSource) -> None:
        """Release the videos of an avatar."""
        self._groups[source].is_ready = True

    def avatar_failed(self, source: AvatarSource) -> tuple[Item, ...]:
        """Take back the videos of an avatar that cannot be made, and return them."""
        return tuple(task.item for task in self._groups.pop(source).waiting)

    def add_mosaic(self, task: MosaicTask) -> None:
        """Schedule a mosaic, whose videos are finished."""
        self._mosaics.append(task)

    def lost(self, worker: int, task: Task, *, lost_machine: bool = False) -> bool:
        """Schedule a task again whose worker died; return False when it is given up instead.

        Args:
            lost_machine: the worker died with its machine, which does not count.
        """
        self._held.pop(worker, None)
        lost = task.source if isinstance(task, AvatarTask) else task.name
        self._losses[lost] += not lost_machine
        if self._losses[lost] >= MAX_LOSSES:
            return False
        match task:
            case AvatarTask():
                self._new.appendleft(task.source)
            case VideoTask():
                self._groups[task.item.source].waiting.appendleft(task)
            case MosaicTask():
                self._mosaics.appendleft(task)
        return True
