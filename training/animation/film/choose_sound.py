"""Whose sound a video has: the driver's or the source film's."""

from __future__ import annotations

from pathlib import Path

from pipelines.media.sound import Sound, find_sound
from pipelines.media.video import probe
from training.animation.render import RenderOptions, driver_sound


def choose_sound(options: RenderOptions, film: Path, driver: Path | None) -> tuple[Sound | None, str | None]:
    """Return the sound of the video, and a note about sound that cannot be used.

    With "auto", that of the driver when lips follow it and it has sound, else the film's.

    Args:
        driver: the driving film, or speech; None: motion alone, which has no sound.
    """
    note = None
    wants_driver = options.sound == "driver" or (options.sound == "auto" and "lips" in options.motion.parts)
    if options.sound == "none":
        return None, None
    if wants_driver and driver is not None:
        sound, note = driver_sound(driver)
        if sound is not None or options.sound == "driver":
            return sound, note
    if options.sound == "driver":
        return None, "the driver is motion without a film: the video is silent"
    sound, own_note = find_sound(film, probe(film).start_s)
    return sound, note or own_note
