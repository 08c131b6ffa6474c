"""Weights that are not what they should be, by their numbers in the list of bad inputs, through the commands."""

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from pipelines import assets, storage
from pipelines.assets import cache
from training.checkpoints.bundle import MANIFEST, TrainingProvenance, load_bundle
from training.config import TrainConfig
from training.meta_training.checkpoint import resume, save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows

PICTURE = str(Path(assets.__file__).parent / "data" / "mona_lisa.jpg")

ORIGIN = TrainingProvenance(7, 28, "set", "d" * 64)
EIGHT_EXABYTES = struct.pack("<Q", 2**63 - 1) + b"{}"


def replaced(folder: Path, name: str, data: bytes) -> None:
    """A file and its hash in the manifest, as somebody who means harm, or another version, would write them."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["sha256"][name] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


Commands = dict[str, Callable[[Path, Path], list[str]]]
COMMANDS: Commands = {
    "fine-tune": lambda model, out: ["fine-tune", PICTURE, "--model", str(model), "-o", str(out)],
    "animate": lambda model, out: [
        "animate",
        "-s",
        PICTURE,
        "-d",
        str(assets.fetch("clip_carphone")),
        "--model",
        str(model),
        "-o",
        str(out),
    ],
    "serve": lambda model, out: ["serve", "--model", str(model), "--port", "0", "--data-dir", str(out)],
}


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    """The one line that the command says."""
    assert sfumato.main(arguments) == code
    said = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert len(said) == 1, said
    return said[0]


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[-5] ^= 4
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*COMMANDS])
@pytest.mark.parametrize("damage", [truncated, flipped])
@pytest.mark.parametrize("name", ["ema_generator.safetensors", "config.json"])
def test_63_a_truncated_file_and_a_flipped_bit_are_refused_by_name(
    verb: str,
    damage: Callable[[bytes], bytes],
    name: str,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (bundle / name).write_bytes(damage((bundle / name).read_bytes()))
    line = refusal(COMMANDS[verb](bundle, tmp_path / "out"), capsys)
    assert f"{bundle / name} is damaged" in line


def test_63_a_flipped_bit_in_the_cache_is_found_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asset = assets.find("yunet")
    good = assets.fetch(asset.name).read_bytes()
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / asset.file).write_bytes(good)
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SFUMATO_MIRROR", mirror.as_uri())
    cached = assets.fetch(asset.name)
    for damage in (truncated, flipped):
        cached.write_bytes(damage(good))
        assert sfumato.main(["assets", "verify", asset.name]) == 1
        said = capsys.readouterr()
        assert str(cached) in said.err + said.out
        assert assets.fetch(asset.name).read_bytes() == good


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*COMMANDS])
@pytest.mark.parametrize("name", ["ema_generator.safetensors", "config.json", "manifest.json"])
def test_64_a_pickle_in_the_place_of_a_file_is_not_run(
    verb: str, name: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    payload = pickle.dumps(Payload(marker))
    if name == MANIFEST:
        (bundle / name).write_bytes(payload)
    else:
        replaced(bundle, name, payload)
    assert name in refusal(COMMANDS[verb](bundle, tmp_path / "out"), capsys)
    assert not marker.exists()


def test_64_optimisers_that_run_a_command_are_refused_before_it_runs(
    bundle: Path, learner: Learner, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    torch.save({"generator": Payload(marker)}, tmp_path / "optimizer.pt")
    for data in ((tmp_path / "optimizer.pt").read_bytes(), pickle.dumps(Payload(marker))):
        replaced(bundle, "optimizer.pt", data)
        with pytest.raises(ValueError, match=r"optimizer\.pt is refused, nothing of it was run") as caught:
            resume(str(bundle), learner)
        assert "\n" not in str(caught.value)
        assert not marker.exists()


def test_64_a_network_of_face_alignment_that_runs_a_command_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.faces.fan.network import load_fan

    marker, path = tmp_path / "marker", tmp_path / "2DFAN4.pth.tar"
    torch.save({"x": Payload(marker)}, path)
    with pytest.raises(ValueError, match=r"2DFAN4\.pth\.tar does not hold the weights of FAN") as caught:
        load_fan(path, "cpu")
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_64_another_file_under_a_perceptual_networks_name_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_train: Callable[..., TrainConfig]
) -> None:
    """The package's file is a pickle: its sha256 is checked first, and the reader takes arrays alone."""
    from training.losses.perceptual import load_perceptual

    marker = tmp_path / "marker"
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    path = assets.path_of(assets.find("lpips_alexnet"))
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({"a": Payload(marker)}))
    monkeypatch.setattr(cache, "_fetch_group", lambda key, group, report: _refuse(assets.verify(group[0])))
    with pytest.raises(ValueError, match=rf"{path.name} has sha256 \w+, expected"):
        load_perceptual(tiny_train())
    assert not marker.exists()


def _refuse(reason: str) -> None:
    raise assets.AssetError(reason)


def _other_sizes(config: dict[str, Any]) -> None:
    config["config"]["model"]["generator_channels"] = [4, 16]


def _other_schema(config: dict[str, Any]) -> None:
    config["schema_version"] = 0


def _other_crop_field(config: dict[str, Any]) -> None:
    config["config"]["model"]["crop"]["margin_of_old"] = 0.3


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*COMMANDS])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_sizes, "ema_generator.safetensors does not fit this architecture"),
        (_other_schema, "bundle schema 0, this version reads 1"),
        (_other_crop_field, "model.crop.margin_of_old"),
    ],
)
def test_65_another_architecture_schema_and_crop_rule_are_told_apart(
    verb: str,
    change: Callable[[dict[str, Any]], None],
    words: str,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = json.loads((bundle / "config.json").read_bytes())
    change(config)
    replaced(bundle, "config.json", json.dumps(config).encode())
    assert words in refusal(COMMANDS[verb](bundle, tmp_path / "out"), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ema_embedder.safetensors", "identity_rows.safetensors", "optimizer.pt"])
def test_65_a_checkpoint_of_other_sizes_is_refused_by_file(
    name: str, bundle: Path, learner: Learner, tiny_train: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_train()
    config = TrainConfig(
        **{**vars(config), "model": type(config.model)(**{**vars(config.model), "embedder_channels": (4, 16)})}
    )
    table = IdentityRows(("a/1", "b/1"), config.model.embedding_size, learning_rate=0.1)
    other = Learner(config, table, learner.loss_networks, SingleProcess(), torch.device("cpu"))
    save_bundle(str(tmp_path / "other"), other.snapshot(), ORIGIN)
    data = (tmp_path / "other" / name).read_bytes()
    replaced(bundle, name, data if name != "optimizer.pt" else b"no zip file")
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
        resume(str(bundle), learner)
    assert "\n" not in str(caught.value)
    if name != "optimizer.pt":
        assert "16" in str(caught.value)  # what differs


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*COMMANDS])
def test_66_a_header_of_eight_exabytes_is_refused_unread(
    verb: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(bundle, "ema_generator.safetensors", EIGHT_EXABYTES)
    line = refusal(COMMANDS[verb](bundle, tmp_path / "out"), capsys)
    assert "ema_generator.safetensors is damaged: it claims a header of 9223372036854775807 bytes" in line


def test_66_a_file_that_is_not_as_long_as_its_header_says_is_not_read(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terabytes of nothing after the tensors cost no memory: only the header is read."""
    path = bundle / "embedder.safetensors"
    os.truncate(path, 2**41)
    read: list[str] = []
    read_bytes = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda url: (read.append(url), read_bytes(url))[1])
    with pytest.raises(ValueError, match=rf"embedder\.safetensors is damaged: .* it has {2**41}"):
        load_bundle(str(bundle))
    assert str(path) not in read


def deep(depth: int) -> bytes:
    header = b"[" * depth
    return struct.pack("<Q", len(header)) + header


@pytest.mark.slow
@pytest.mark.parametrize(
    "data", [b"", b"1234567", struct.pack("<Q", 2) + b"[]", deep(100_000), struct.pack("<Q", 7) + b'{"a":1}']
)
def test_66_what_is_no_header_is_refused_in_one_line(data: bytes, bundle: Path) -> None:
    replaced(bundle, "generator.safetensors", data)
    with pytest.raises(ValueError, match=r"/generator\.safetensors is damaged"):
        load_bundle(str(bundle))
