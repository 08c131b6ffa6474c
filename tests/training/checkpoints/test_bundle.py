import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.avatars.avatar import load_avatar
from training.checkpoints.bundle import (
    MANIFEST,
    TrainingProvenance,
    differences,
    load_bundle,
    load_weights,
    read_with_manifest,
    write_with_manifest,
)
from training.config import InitialModel, TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import initialize_from, resume, save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.run_config import with_initial_model
from training.meta_training.step import Learner
from training.models.generator import Generator
from training.models.identity_rows import IdentityRows

ORIGIN = TrainingProvenance(7, 28, "gs://bucket/set", "d" * 64)
MakeTrain = Callable[..., TrainConfig]


@pytest.fixture
def make_learner(random_perceptual: PerceptualNetwork, tiny_train: MakeTrain) -> Callable[..., Learner]:
    def make(*video_ids: str, **changes: object) -> Learner:
        config = tiny_train(**changes)
        table = IdentityRows(video_ids or ("a/1", "b/1"), config.model.embedding_size, learning_rate=0.1)
        return Learner(
            config, table, LossNetworks(config.losses, random_perceptual), SingleProcess(), torch.device("cpu")
        )

    return make


@pytest.fixture
def bundle(make_learner: Callable[..., Learner], tmp_path: Path) -> Path:
    save_bundle(str(tmp_path / "model"), make_learner().snapshot(), ORIGIN)
    return tmp_path / "model"


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Change a file and its hash in the manifest: what another version of the program would have written."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["sha256"][name] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_bundle_round_trips(make_learner: Callable[..., Learner], tmp_path: Path) -> None:
    learner = make_learner(warp_prior=True)
    url = str(tmp_path / "model")
    for value in learner.generator_ema.shadow.values():
        value.add_(0.01)  # averages differ from weights
    save_bundle(url, learner.snapshot(), ORIGIN)
    model = load_bundle(url)
    assert model.config == learner.config
    assert model.origin == ORIGIN
    for name, value in model.generator.state_dict().items():
        assert torch.equal(value, learner.generator_ema.shadow[name])
    for name, value in model.discriminator.state_dict().items():
        assert torch.equal(value, learner.discriminator.state_dict()[name])
    assert model.version == hashlib.sha256((tmp_path / "model" / MANIFEST).read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_run_begins_with_the_averages_of_another(make_learner: Callable[..., Learner], tmp_path: Path) -> None:
    url = str(tmp_path / "model")
    old = make_learner()
    for value in old.generator_ema.shadow.values():
        value.add_(0.01)
    save_bundle(url, old.snapshot(), ORIGIN)
    new = make_learner(seed=1)
    assert not torch.equal(new.generator.state_dict()["head.bias"], old.generator_ema.shadow["head.bias"])
    config = with_initial_model(new.config, url)
    assert config == dataclasses.replace(
        new.config, start_from=InitialModel(load_bundle(url).version, ORIGIN.images_seen)
    )
    new.config = config
    initialize_from(url, new)
    for name, value in old.generator_ema.shadow.items():
        assert torch.equal(new.generator.state_dict()[name], value)
        assert torch.equal(new.generator_ema.shadow[name], value)
    for name, value in old.discriminator.state_dict().items():
        assert torch.equal(new.discriminator.state_dict()[name], value)
    save_bundle(url, new.snapshot(), ORIGIN)
    with pytest.raises(ValueError, match="model is not the model that this run began with"):
        initialize_from(url, new)


def test_what_is_written_while_training_goes_on_is_the_step_of_the_snapshot(
    make_learner: Callable[..., Learner], tmp_path: Path
) -> None:
    learner = make_learner()
    before = {name: value.clone() for name, value in learner.generator.state_dict().items()}
    rows = learner.table.rows.clone()
    snapshot = learner.snapshot()
    with torch.no_grad():  # the next steps
        for value in [*learner.generator.parameters(), *learner.generator_ema.shadow.values()]:
            value.add_(1.0)
    learner.table.apply(torch.tensor([0]), torch.ones(1, learner.table.rows.shape[1]))
    save_bundle(str(tmp_path / "model"), snapshot, ORIGIN)
    resume(str(tmp_path / "model"), learner)
    assert all(torch.equal(value, before[name]) for name, value in learner.generator.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in learner.generator_ema.shadow.items())
    assert not torch.equal(learner.table.rows, rows), "rows that were never updated are the seed's, and not stored"


def test_a_bundle_lives_on_any_storage(make_learner: Callable[..., Learner], tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/model"
    learner = make_learner()
    save_bundle(url, learner.snapshot(), ORIGIN)
    assert load_bundle(url).origin == ORIGIN
    assert resume(url, learner) == ORIGIN


def test_the_manifest_is_written_last(
    make_learner: Callable[..., Learner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import storage

    written: list[str] = []
    write = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", lambda url, data: (written.append(url), write(url, data)))
    save_bundle(str(tmp_path / "model"), make_learner().snapshot(), ORIGIN)
    assert [url.endswith(MANIFEST) for url in written] == [False] * (len(written) - 1) + [True]


def test_no_file_of_a_bundle_needs_pickle(bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == [
        "config.json", "discriminator.safetensors", "ema_embedder.safetensors", "ema_generator.safetensors",
        "embedder.safetensors", "generator.safetensors", "identity_rows.parquet", "identity_rows.safetensors",
        "manifest.json", "optimizer.pt",
    ]  # fmt: skip
    assert torch.load(bundle / "optimizer.pt", weights_only=True)["ema_updates"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generator.safetensors", "config.json", "identity_rows.parquet", "optimizer.pt"])
def test_a_flipped_bit_is_refused_naming_the_file(name: str, bundle: Path) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} is damaged: its sha256 is \w+…, manifest\.json says"):
        load_bundle(str(bundle))


def test_a_truncated_file_and_a_missing_one_are_refused_by_name(bundle: Path) -> None:
    path = bundle / "embedder.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"embedder\.safetensors is damaged"):
        load_bundle(str(bundle))
    path.unlink()
    with pytest.raises(ValueError, match=r"embedder\.safetensors is missing, though manifest\.json names it"):
        load_bundle(str(bundle))


def test_a_folder_without_a_manifest_is_no_model(bundle: Path, tmp_path: Path) -> None:
    (bundle / MANIFEST).unlink()
    with pytest.raises(ValueError, match=r"holds no manifest\.json"):
        load_bundle(str(bundle))
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_bundle(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"sha256": 3}', '{"sha256": {"a": 1}}'])
def test_a_broken_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is no manifest"):
        load_bundle(str(tmp_path))


def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / MANIFEST).write_text('{"sha256": {"../secret": "0"}}')
    with pytest.raises(ValueError, match="is missing"):
        read_with_manifest(str(tmp_path / "model"))


def test_another_kind_of_folder_with_a_manifest_is_refused(bundle: Path, tmp_path: Path) -> None:
    """An avatar where a model is wanted, and the other way round."""
    write_with_manifest(str(tmp_path / "other"), {"generator.safetensors": b""}, steps=3)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_bundle(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="is no avatar's"):
        load_avatar(str(bundle))


def test_weights_of_another_architecture_are_refused(
    bundle: Path, make_learner: Callable[..., Learner], tiny_train: MakeTrain
) -> None:
    config = json.loads((bundle / "config.json").read_bytes())
    config["config"]["model"]["generator_channels"] = [4, 16]
    rewrite(bundle, "config.json", json.dumps(config).encode())
    with pytest.raises(ValueError, match=r"ema_generator\.safetensors does not fit this architecture: .*size mismatch"):
        load_bundle(str(bundle))
    with pytest.raises(ValueError, match=r"^x does not fit this architecture"):
        load_weights(Generator(tiny_train().model), b"no safetensors", "x")


@pytest.mark.slow
def test_a_resume_with_another_configuration_shows_the_difference(
    bundle: Path, make_learner: Callable[..., Learner]
) -> None:
    other = make_learner(learning_rate=0.5, num_steps=99, num_shots=3)
    with pytest.raises(ValueError, match=r"another configuration: learning_rate: 0\.001 -> 0\.5; num_shots: 2 -> 3$"):
        resume(str(bundle), other)
    assert resume(str(bundle), make_learner(num_steps=99)) == ORIGIN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["config"].update(learning_speed=3), "learning_speed"),
        (lambda raw: raw["config"]["model"]["raster"].update(colour="red"), r"model\.raster\.colour"),
        (lambda raw: raw["config"].update(num_shots="many"), "num_shots"),
        (lambda raw: raw["config"]["model"].update(image_size=30), "cannot be halved"),
        (lambda raw: raw.update(schema_version=9), "bundle schema 9, this version reads 1"),
    ],
)
def test_a_config_that_this_version_does_not_know_is_refused(
    change: Callable[[dict[str, object]], None], message: str, bundle: Path
) -> None:
    raw = json.loads((bundle / "config.json").read_bytes())
    change(raw)
    rewrite(bundle, "config.json", json.dumps(raw).encode())
    with pytest.raises(ValueError, match=message) as caught:
        load_bundle(str(bundle))
    assert "\n" not in str(caught.value)


def test_rows_follow_their_video_into_another_data_set(make_learner: Callable[..., Learner], tmp_path: Path) -> None:
    old = make_learner("a/1", "b/1", "gone/1")
    old.table.apply(torch.tensor([0, 1]), torch.ones(2, 8))
    save_bundle(str(tmp_path), old.snapshot(), ORIGIN)
    new = make_learner("new/1", "b/1", "a/1")
    start = new.table.rows[0].clone()
    resume(str(tmp_path), new)
    assert torch.equal(new.table.rows, torch.stack([start, old.table.rows[1], old.table.rows[0]]))
    assert new.table.steps.tolist() == [0, 1, 1]


def test_differences_are_leaves_by_path() -> None:
    old = {"a": 1, "b": {"c": 2, "d": 3}, "e": 5, "same": 0}
    new = {"a": 1, "b": {"c": 4, "d": 3}, "f": 6, "same": 0}
    assert differences(old, new, {"e"}) == ["b.c: 2 -> 4", "f: None -> 6"]
    assert differences(old, old, set()) == []


@pytest.mark.slow
def test_equal_learners_write_equal_bundles(make_learner: Callable[..., Learner], tmp_path: Path) -> None:
    for name in "ab":
        save_bundle(str(tmp_path / name), make_learner().snapshot(), dataclasses.replace(ORIGIN))
    a, b = (load_bundle(str(tmp_path / name)).version for name in "ab")
    assert a == b
