from dataclasses import asdict

import pytest

from pipelines.preprocess.config import ClipConfig, clip_config


def test_a_data_set_from_before_the_second_look_is_continued_without_it() -> None:
    settings = asdict(ClipConfig())
    assert clip_config({"clip": settings}).second_look
    del settings["second_look"]
    assert not clip_config({"clip": settings}).second_look
    with pytest.raises(ValueError, match="the data set was begun by another version"):
        clip_config({})
