"""Export of a base model: smaller, draws the same, cannot be trained further, its card tells its own files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

import sfumato
from training.checkpoints import export
from training.checkpoints.bundle import MANIFEST, TrainingProvenance, load_bundle, write_with_manifest
from training.checkpoints.export import export_bundle
from training.config import TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows
from training.warp.apply import WarpedShot


@pytest.fixture
def base_bundle(tiny_train: Callable[..., TrainConfig], random_perceptual: PerceptualNetwork, tmp_path: Path) -> Path:
    """A model that paints."""
    config = tiny_train(warp_prior=True)
    table = IdentityRows(["ann/v1"], config.model.embedding_size, learning_rate=0.1)
    learner = Learner(
        config, table, LossNetworks(config.losses, random_perceptual), SingleProcess(), torch.device("cpu")
    )
    torch.manual_seed(0)
    for name in ("head.weight", "head.bias"):
        torch.nn.init.normal_(learner.generator_ema.shadow[name], std=0.2)
    save_bundle(str(tmp_path / "model"), learner.snapshot(), TrainingProvenance(7, 28, "/home/ann/faces", "d" * 64))
    return tmp_path / "model"


@pytest.fixture
def exported(base_bundle: Path, tmp_path: Path) -> Path:
    (base_bundle / "README.md").write_text(
        "# A model\n\nOf /home/ann/faces.\n\n## Files\n\n| file | sha256 |\n| old | 123 |\n"
    )
    export_bundle(str(base_bundle), str(tmp_path / "small"))
    return tmp_path / "small"


@pytest.mark.slow
def test_it_draws_what_the_model_draws_to_a_quarter_of_an_8_bit_step_on_average(
    base_bundle: Path, exported: Path, unbent: Callable[[Tensor, Tensor], WarpedShot]
) -> None:
    torch.manual_seed(0)
    picture, landmarks = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32)
    drawn = []
    for folder in (base_bundle, exported):
        model = load_bundle(str(folder))
        adain = model.generator.adain_values(model.embedder(picture, landmarks))
        drawn.append(model.generator(landmarks, adain, unbent(picture.flip(3), landmarks)).frame.detach().numpy())
    assert np.abs(drawn[0] - picture.flip(3).numpy()).max() > 0.05  # it paints
    assert np.abs(drawn[1] - drawn[0]).mean() < 0.25 * 2 / 255


def test_only_what_drawing_and_fine_tuning_need_is_kept_and_takes_half_the_room(
    base_bundle: Path, exported: Path
) -> None:
    names = {"config.json", "ema_embedder.safetensors", "ema_generator.safetensors", "discriminator.safetensors"}
    assert {path.name for path in exported.iterdir()} == names | {"README.md", MANIFEST}
    for name in sorted(names - {"config.json"}):
        assert (exported / name).stat().st_size < 0.75 * (base_bundle / name).stat().st_size  # tiny: much is headers
        kinds = {value.ndim > 1: value.dtype for value in safetensors.torch.load_file(exported / name).values()}
        assert kinds == {True: torch.float16, False: torch.float32}


@pytest.mark.slow
def test_the_card_lists_the_new_files_in_place_of_the_old(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert card.startswith("# A model\n\nOf faces.\n\n## Files\n")
    assert "| old |" not in card
    for digest in json.loads((exported / MANIFEST).read_bytes())["sha256"].values():
        assert digest in card
    assert load_bundle(str(exported)).version in card


def test_where_the_data_lay_on_this_machine_is_not_handed_on(exported: Path) -> None:
    assert load_bundle(str(exported)).origin == TrainingProvenance(7, 28, "faces", "d" * 64)
    assert not [path.name for path in exported.iterdir() if b"/home/ann" in path.read_bytes()]


@pytest.mark.slow
def test_what_is_too_large_for_one_file_becomes_several_and_is_read_back(
    base_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, small, again = (tmp_path / name for name in ("whole", "small", "again"))
    export_bundle(str(base_bundle), str(whole))
    monkeypatch.setattr(export, "_MAX_FILE_BYTES", 12_000)
    export_bundle(str(base_bundle), str(small))
    export_bundle(str(small), str(again))  # from parts as from one file
    names = sorted(path.name for path in small.glob("*.safetensors"))
    assert "ema_generator-00001-of-00004.safetensors" in names
    assert "ema_generator.safetensors" not in names
    assert all((small / name).stat().st_size <= 12_000 for name in names)
    expected = load_bundle(str(whole)).generator.state_dict()
    for folder in (small, again):
        found = load_bundle(str(folder)).generator.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    # A manifest that speaks of fewer parts is no model.
    files = {path.name: path.read_bytes() for path in small.iterdir() if path.suffix in (".safetensors", ".json")}
    del files["ema_generator-00002-of-00004.safetensors"], files[MANIFEST]
    write_with_manifest(str(tmp_path / "short"), files)
    assert sfumato.main(["export", str(tmp_path / "short"), "-o", str(tmp_path / "out")]) == 1
    assert "short is incomplete: its manifest.json names ema_generator-00001-of-00004" in capsys.readouterr().err


def test_a_card_of_ones_own_takes_its_place(base_bundle: Path, tmp_path: Path) -> None:
    export_bundle(str(base_bundle), str(tmp_path / "small"), "# Mine\n")
    assert (tmp_path / "small" / "README.md").read_text().startswith("# Mine\n\n## Files\n")


def test_a_model_is_not_exported_onto_itself(base_bundle: Path) -> None:
    with pytest.raises(ValueError, match="model cannot be exported onto itself: name another folder"):
        export_bundle(str(base_bundle), f"{base_bundle}/")
    assert (base_bundle / "optimizer.pt").exists()


def test_numbers_beyond_half_precision_are_refused_by_name(base_bundle: Path, tmp_path: Path) -> None:
    weights = safetensors.torch.load_file(base_bundle / "discriminator.safetensors")
    name = next(name for name, value in weights.items() if value.ndim > 1)
    weights[name][:] = 1e6
    names = ("config.json", "ema_embedder.safetensors", "ema_generator.safetensors")
    files = {name: (base_bundle / name).read_bytes() for name in names}
    files["discriminator.safetensors"] = safetensors.torch.save(weights)
    write_with_manifest(str(tmp_path / "large"), files)
    with pytest.raises(ValueError, match=f"large/discriminator.safetensors: {name} does not fit into half precision"):
        export_bundle(str(tmp_path / "large"), str(tmp_path / "small"))
    assert not (tmp_path / "small").exists()
