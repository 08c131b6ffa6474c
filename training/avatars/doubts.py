"""What is doubtful about the pictures of an avatar: repeats, and pictures of somebody else."""

from collections.abc import Sequence

import numpy as np

from pipelines.assets import AssetError, CacheError
from pipelines.faces.identity.sface import FaceRecogniser, align
from training.avatars.portraits import Portrait

_ALIKE = 0.25  # similarity by SFace from which on two pictures may show one person; its authors' threshold is 0.363


def doubts(portraits: Sequence[Portrait], num_named: int) -> tuple[str, ...]:
    """Return lines for the user about pictures that do not help an avatar.

    Args:
        portraits: of `find_portraits`, which keeps each content once.
        num_named: number of pictures that the user named.
    """
    notes = []
    if repeats := num_named - len(portraits):
        notes.append(f"{repeats} of {num_named} pictures have the content of another one: each is used once")
    notes += [
        f"{portraits[number].name} seems to show somebody else than {portraits[0].name}: an avatar is of one person"
        for number in _strangers(portraits)
    ]
    return tuple(notes)


def _strangers(portraits: Sequence[Portrait]) -> list[int]:
    """Return the pictures that resemble neither the first one nor one that resembles it, directly or by others."""
    if len(portraits) < 2:
        return []
    try:
        faces = FaceRecogniser().embed_aligned([align(each.image, each.landmarks) for each in portraits])
    except (AssetError, CacheError):
        return []
    alike, known = faces @ faces.T >= _ALIKE, np.zeros(len(faces), bool)
    known[0] = True
    while (more := known | alike[known].any(axis=0)).sum() > known.sum():
        known = more
    return [int(number) for number in np.flatnonzero(~known)]
