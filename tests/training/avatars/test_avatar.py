import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from training.avatars.avatar import Avatar, load_avatar, save_avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import MANIFEST, BaseModel


@pytest.fixture
def avatar(base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]) -> Avatar:
    return fine_tune(base_model(warp_prior=True), [portrait(yaw=12.0), portrait(50.0, yaw=2.0)], FineTuneConfig(0))


@pytest.fixture
def saved(avatar: Avatar, tmp_path: Path) -> Path:
    save_avatar(avatar, str(tmp_path / "avatar"), "her own wish")
    return tmp_path / "avatar"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["{tmp}/avatar", "memory://{name}/avatar"])
def test_an_avatar_round_trips(where: str, avatar: Avatar, tmp_path: Path) -> None:
    url = where.format(tmp=tmp_path, name=tmp_path.name)
    save_avatar(avatar, url, None)
    again = load_avatar(url)
    for field in ("config", "steps", "base_version"):
        assert getattr(again, field) == getattr(avatar, field)
    assert torch.equal(again.adain_values, avatar.adain_values)
    for name, value in avatar.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], value)
    for ours, theirs in zip(avatar.portraits, again.portraits, strict=True):
        assert np.array_equal(ours.image, theirs.image)
        assert np.array_equal(ours.landmarks, theirs.landmarks)
        assert (ours.name, ours.sha256) == (theirs.name, theirs.sha256)
    assert not again.generator.training


def test_weights_that_half_precision_holds_exactly_are_stored_so_and_no_value_changes(
    avatar: Avatar, tmp_path: Path
) -> None:
    """1.5 and 2^-14 have half-precision forms; 0.1 and 1e6 do not."""
    exact, other = list(avatar.generator.parameters())[:2]
    with torch.no_grad():
        exact.fill_(1.5).view(-1)[0] = 2.0**-14
        other.fill_(0.1).view(-1)[0] = 1e6
    names = [name for name, value in avatar.generator.named_parameters() if value is exact or value is other]
    save_avatar(avatar, str(tmp_path / "avatar"), None)
    stored = safetensors.torch.load_file(tmp_path / "avatar" / "generator.safetensors")
    assert [stored[name].dtype for name in names] == [torch.float16, torch.float32]
    again = load_avatar(str(tmp_path / "avatar")).generator.state_dict()
    for name, value in avatar.generator.state_dict().items():
        assert again[name].dtype == value.dtype
        assert torch.equal(again[name], value)


@pytest.mark.slow
def test_gaze_is_kept_and_avatars_from_before_have_none(avatar: Avatar, saved: Path, tmp_path: Path) -> None:
    gaze = np.array([[0.4, 0.1], [0.45, 0.125]], np.float32)
    looking = dataclasses.replace(avatar.portraits[0], gaze=gaze)
    save_avatar(dataclasses.replace(avatar, portraits=(looking,)), str(tmp_path / "looking"), None)
    again = load_avatar(str(tmp_path / "looking")).portraits[0].gaze
    assert again is not None
    assert np.array_equal(again, gaze)
    manifest = json.loads((saved / MANIFEST).read_bytes())
    for portrait in manifest["portraits"]:
        del portrait["gaze"]
    (saved / MANIFEST).write_text(json.dumps(manifest))
    assert [portrait.gaze for portrait in load_avatar(str(saved)).portraits] == [None, None]


def test_the_most_frontal_portrait_is_animated(avatar: Avatar) -> None:
    assert avatar.canvas is avatar.portraits[1]


def test_the_consent_is_kept(saved: Path) -> None:
    assert json.loads((saved / MANIFEST).read_bytes())["consent"] == "her own wish"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["portrait-1.png", "generator.safetensors"])
def test_a_damaged_file_is_refused_by_name(name: str, saved: Path) -> None:
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load_avatar(str(saved))


def test_what_is_no_avatar_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_avatar(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"holds no manifest\.json: it is no model or avatar"):
        load_avatar(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "avatar schema 2, this version reads 1"),
        ({"steps": "many"}, r"manifest\.json is no avatar's: steps"),
        ({"portraits": [{"name": "x"}]}, r"portraits\.0\."),
        (
            {"portraits": [{"name": "x", "sha256": "", "landmarks": [], "gaze": [[0.5, 0.0]]}]},
            r"portraits\.0\.gaze",
        ),
    ],
)
def test_a_manifest_of_another_kind_is_refused(change: dict[str, object], message: str, saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_bytes())
    (saved / MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(ValueError, match=message):
        load_avatar(str(saved))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["portrait-1.png", "generator.safetensors"])
def test_a_file_replaced_with_its_hash_is_refused_by_name(name: str, saved: Path) -> None:
    (saved / name).write_bytes(b"something else")
    manifest = json.loads((saved / MANIFEST).read_bytes())
    manifest["sha256"][name] = hashlib.sha256(b"something else").hexdigest()
    (saved / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=name):
        load_avatar(str(saved))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["portrait-1.png", "generator.safetensors"])
def test_a_manifest_that_names_too_few_files_is_refused(name: str, saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_bytes())
    del manifest["sha256"][name]
    (saved / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=name):
        load_avatar(str(saved))


def test_an_avatar_of_another_size_does_not_load_into_this_one(saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_bytes())
    manifest["config"]["generator_channels"] = [4, 16]
    (saved / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"generator\.safetensors does not fit this architecture"):
        load_avatar(str(saved))


def test_portraits_beside_each_other_differ_in_name(avatar: Avatar, tmp_path: Path) -> None:
    """Names come from users' files and must not become paths."""
    bad = dataclasses.replace(avatar.portraits[0], name="../../etc/passwd")
    save_avatar(dataclasses.replace(avatar, portraits=(bad, bad)), str(tmp_path / "a"), None)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "generator.safetensors", "manifest.json", "portrait-0.png", "portrait-1.png",
    ]  # fmt: skip
    assert load_avatar(str(tmp_path / "a")).portraits[0].name == "../../etc/passwd"
