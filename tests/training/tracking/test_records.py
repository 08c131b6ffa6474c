import math

import numpy as np
import pytest

from training.tracking.records import (
    Files,
    Lineage,
    Metrics,
    Params,
    Picture,
    Record,
    Registration,
    Status,
    Tags,
    Text,
    decode,
    encode,
    sample_picture,
)

ALL: list[Record] = [
    Metrics(3, {"content": 0.1, "worse": math.inf}, 1_700_000_000_123),
    Tags({"device": "CPU"}),
    Params({"model.image_size": "256"}),
    Lineage("gs://bucket/set", "d" * 64),
    Text("config.json", '{"a": "é\n"}'),
    Picture("samples/x.png", "aGk="),
    Files("/runs/a", ("config.json", "manifest.json"), "model"),
    Registration("model", "v" * 64, "# A model", {"step": "3"}, 5),
    Status("KILLED", 7),
]


def test_every_kind_of_record_comes_back_as_it_was() -> None:
    data = encode(ALL)
    assert data.count(b"\n") == len(ALL)
    assert decode(data, "x") == ALL


def test_a_loss_that_is_no_number_is_kept() -> None:
    (back,) = decode(encode([Metrics(1, {"content": math.nan}, 0)]), "x")
    assert isinstance(back, Metrics)
    assert math.isnan(back.values["content"])


@pytest.mark.parametrize("data", [b"text", b"{}", b'{"kind": "metrics"}', b'{"kind": "weights"}', b"\xff", b"[1]"])
def test_what_is_no_record_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a\.jsonl holds no records of a run"):
        decode(data, "a.jsonl")


def test_a_sample_is_a_png_named_by_its_step() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    record = sample_picture(31, image)
    assert record.file == "samples/step-0000031.png"
    assert np.array_equal(np.asarray(record.image()), image)
