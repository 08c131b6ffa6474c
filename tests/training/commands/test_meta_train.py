"""The command's own words; training itself is tested with the loop and with Ray."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from web.front_end_process import free_port
from web.scraping import read

import sfumato
from pipelines import assets
from pipelines.dataset.reader import ShardDataset
from training.checkpoints.shipped import SHIPPED
from training.commands.meta_train import Options
from training.config import Augmentation, SyntheticConfig
from training.episodes.source import open_dataset
from training.losses.perceptual_files import PerceptualFiles
from training.meta_training.run_config import with_detector_of, with_initial_model, with_published_perceptual
from training.meta_training.run_record import read_record
from training.presets import base, demo
from training.tracking.sender import Unreachable
from training.tracking.tracker import Tracker

MakeDataset = Callable[..., ShardDataset]


def test_flags_change_the_presets_configuration() -> None:
    assert Options("demo", "run", "set").config() == demo()
    options = Options("demo", "run", "set", num_shots=2, shuffle="shards", window_shards=3, num_steps=9)
    assert options.config() == replace(demo(), num_shots=2, read_order="shards", window_shards=3, num_steps=9)
    options = Options(
        "demo", "run", "set", augment_flip=True, augment_colour=0.1, augment_affine=0.05, augment_camera=0.2
    )
    assert options.config() == replace(demo(), augmentation=Augmentation(True, colour=0.1, affine=0.05, camera=0.2))


def test_the_published_form_is_a_flag_away() -> None:
    config = Options("demo", "run", "set", no_warp_prior=True).config()
    assert config == replace(demo(), model=replace(demo().model, warp_prior=False))
    assert Options("paper", "run", "set", warp_prior=True).config().model.warp_prior


def test_both_learning_rates_follow_the_flag() -> None:
    config = Options("small", "run", "set", learning_rate=1e-5).config()
    assert (config.learning_rate, config.learning_rate_discriminator) == (1e-5, pytest.approx(4e-5))


@pytest.mark.slow
def test_what_a_run_cannot_start_from_is_one_line(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make_dataset("ann/v1").root, tmp_path / "run"
    (tmp_path / "empty").mkdir()
    for words, code, line in (
        (["demo", "--init-from", "shipped"], 1, "base_model is no model to start from here: "),
        (["demo", "--init-from", "shipped"], 1, "image_size: 96 -> 64"),
        (["base", "--no-warp-prior", "--init-from", "shipped"], 1, "here: warp_prior: True -> False"),
        (["base", "--init-from", f"{tmp_path}/none"], 2, f"{tmp_path}/none does not exist"),
        (["base", "--init-from", f"{tmp_path}/empty"], 1, f"{tmp_path}/empty holds no manifest.json"),
        (["base", "--learning-rate", "0"], 2, "--learning-rate must lie between 0 and 1, not 0"),
    ):
        assert sfumato.main(["meta-train", *words, "--data", root, "-o", str(out)]) == code
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("sfumato meta-train: error: ")
        assert line in said
        assert not out.exists()


def test_a_run_goes_on_from_the_same_beginning_only(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_initial_model(base(), SHIPPED)
    (tmp_path / "run.json").write_text(json.dumps({"mlflow_run": "x", "config": asdict(config)}))
    assert read_record(str(tmp_path), config)["mlflow_run"] == "x"
    assert sfumato.main(["meta-train", "base", "--data", make_dataset("ann/v1").root, "-o", str(tmp_path)]) == 1
    assert "start_from: " in capsys.readouterr().err


def test_precision_follows_the_hardware_unless_it_is_named() -> None:
    for options, precision in (
        (Options("demo", "run", "set"), "float32"),
        (Options("demo", "run", "set", gpus=True), "bfloat16"),
        (Options("demo", "run", "set", gpus=True, precision="float32"), "float32"),
        (Options("demo", "run", "set", precision="bfloat16"), "bfloat16"),
    ):
        assert options.config().engine.precision == precision


def test_networks_are_compiled_on_gpus_unless_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, compiled in (({}, None), ({"compile": True}, True), ({"no_compile": True}, False)):
        options = Options("demo", "run", "set", **flags)
        assert options.config().engine.compile is compiled
        flag = [f"--{name.replace('_', '-')}" for name in flags]
        assert options.command_line().split()[7:] == flag
    both = ["meta-train", "demo", "-o", "run", "--data", "set", "--compile", "--no-compile"]
    assert sfumato.main(both) == 2
    assert "--compile and --no-compile contradict each other: give one of them" in capsys.readouterr().err


def test_people_are_drawn_online_in_place_of_a_data_set() -> None:
    assert Options("demo", "run", synthetic=True).config() == replace(demo(), online=SyntheticConfig())
    options = Options(
        "demo", "run", synthetic=True, synthetic_identities=9, synthetic_motion="procedural", synthetic_size=96
    )
    assert options.config().online == SyntheticConfig(9, motion="procedural", render_size=96)
    assert Options("demo", "run", synthetic=True, synthetic_reuse=1).config().online == SyntheticConfig(reuse=1)
    assert Options("demo", "run", "set", synthetic_identities=9).config().online is None


def test_a_data_set_or_people_drawn_online_but_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--data", "set", "--synthetic"]):
        assert sfumato.main(["meta-train", "demo", "-o", "run", *words]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("sfumato meta-train: error: ")
        assert said.endswith("give either --data ROOT, a data set, or --synthetic, people drawn while training")
    assert sfumato.main(["meta-train", "demo", "-o", "run", "--synthetic", "--synthetic-identities", "0"]) == 1
    assert "num_people must be at least 1, not 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("workers", "least", "message"),
    [(2, 3, "not 3, 2, 8"), (9, None, "not 9, 9, 8"), (2, 0, "not 0, 2, 8")],
)
def test_a_number_of_workers_that_cannot_be_is_refused_before_anything_starts(
    workers: int, least: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Options("demo", "run", "set", workers=workers, min_workers=least).cluster(8)


def test_more_shots_than_every_clip_holds_are_said_in_one_line(make_dataset: MakeDataset) -> None:
    dataset = make_dataset("ann/v1", "bob/v1", "cyd/v1", num_frames=[4, 9, 5])
    data = open_dataset(dataset.root, replace(demo(), num_shots=4))
    assert [video.video_id for video in data.videos] == ["bob/v1", "cyd/v1"]
    assert data.shortfall(4) == (
        f"K = 4 is more than the 3 shots that every clip of {dataset.root} holds: "
        "1 of 3 training videos have fewer than 5 frames and are left out"
    )
    assert data.shortfall(3) == ""


def test_copies_of_shards_go_to_the_cache_folder_or_where_one_says(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = make_dataset("ann/v1").root
    assert open_dataset(root, demo()).shard_cache == assets.cache_folder() / "shards"
    assert open_dataset(root, demo(), "/disk").shard_cache == Path("/disk")
    monkeypatch.chdir(tmp_path)
    assert Options("demo", "run", "set", shard_cache="here").absolute_shard_cache == str(tmp_path / "here")


def test_a_run_from_before_a_flag_existed_is_continued(tmp_path: Path) -> None:
    config = {name: value for name, value in asdict(demo()).items() if name not in ("read_order", "window_shards")}
    del config["losses"]["content_face"], config["model"]["raster"]["inner_lip"]
    (tmp_path / "run.json").write_text(json.dumps({"mlflow_run": "x", "config": config}))
    assert read_record(str(tmp_path), demo())["mlflow_run"] == "x"
    with pytest.raises(ValueError, match="read_order: videos -> shards"):
        read_record(str(tmp_path), replace(demo(), read_order="shards"))


def test_too_many_shots_for_every_video_end_the_command(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = make_dataset("ann/v1").root, str(tmp_path / "run")
    assert sfumato.main(["meta-train", "demo", "--data", root, "-o", run, "--num-shots", "5"]) == 1
    assert "none of the 1 training videos" in capsys.readouterr().err
    assert sfumato.main(["meta-train", "demo", "--data", root, "-o", run, "--shuffle", "frames"]) == 2
    assert sfumato.main(["meta-train", "demo", "--data", root, "-o", run, "--window-shards", "0"]) == 1
    assert "window_shards must be at least 1, not 0" in capsys.readouterr().err
    assert sfumato.main(["meta-train", "demo", "--data", root, "-o", run, "--augment-affine", "2"]) == 1
    assert "affine must lie in [0, 0.25], not 2.0" in capsys.readouterr().err
    assert sfumato.main(["meta-train", "demo", "--data", root, "-o", run, "--augment-camera", "2"]) == 1
    assert "camera must lie in [0, 0.5], not 2.0" in capsys.readouterr().err


def test_the_line_comes_before_training(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset("ann/v1", "bob/v1", num_frames=[4, 5]).root
    (tmp_path / "run.json").write_text(json.dumps({"config": asdict(replace(demo(), seed=5))}))
    assert sfumato.main(["meta-train", "demo", "--data", root, "-o", str(tmp_path)]) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("sfumato meta-train: K = 4 is more than the 3 shots")
    assert "1 of 2 training videos have fewer than 5 frames and are left out" in first
    assert "was started with another configuration (seed: 5 -> 0)" in last


@pytest.mark.slow
def test_what_workers_log_is_there_for_prometheus_and_named_in_the_errors_of_its_address(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(tracker: Tracker) -> None:
        raise Unreachable("away")

    def fit(*arguments: Any, **_more: Any) -> str:
        on_progress = arguments[5]
        on_progress(7, {"generator": 2.5, "images_per_second": 12.0, "rollbacks": 1.0})
        seen.update(read(address))
        raise ValueError("the end of this test")

    monkeypatch.setattr(Tracker, "_connect", away)
    monkeypatch.setattr("training.meta_training.ray_train.fit", fit)
    seen: dict[tuple[str, ...], float] = {}
    address, root = f"127.0.0.1:{free_port()}", make_dataset("ann/v1", "bob/v1").root
    command = ["meta-train", "demo", "--data", root, "-o", str(tmp_path / "run"), "--num-shots", "1"]
    assert sfumato.main([*command, "--num-steps", "9", "--metrics-address", address]) == 1
    assert "the end of this test" in capsys.readouterr().err
    assert seen["sfumato_training_last_step",] == 9
    assert seen["sfumato_training_step",] == 7
    assert seen["sfumato_training_images_per_second",] == 12
    assert seen["sfumato_training_loss", "term=generator"] == 2.5
    assert seen["sfumato_training_rollbacks_total",] == 1
    assert sfumato.main([*command, "--metrics-address", "here"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("such as 9400 or 0.0.0.0:9400, not 'here'")


def test_a_model_is_of_the_landmarks_of_its_data_and_takes_no_others(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset("ann/v1").root
    manifest = Path(root, "dataset.json")
    manifest.write_text(manifest.read_text().replace('"detector": "mediapipe"', '"detector": "face-alignment"'))
    config = with_detector_of(demo(), root)
    assert config.model.detector == "face-alignment"
    (tmp_path / "run.json").write_text(json.dumps({"mlflow_run": "x", "config": asdict(demo())}))
    with pytest.raises(ValueError, match=r"model\.detector: mediapipe -> face-alignment"):
        read_record(str(tmp_path), config)


@pytest.mark.slow
def test_published_weights_that_cannot_be_had_are_one_line(
    make_dataset: MakeDataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    published_files: PerceptualFiles,
) -> None:
    root, out = make_dataset("ann/v1").root, tmp_path / "run"
    cut = tmp_path / "cut.pth"
    cut.write_bytes(Path(published_files.vggface).read_bytes()[:100_000])
    good = published_files.vgg19
    for flags, code, line in (
        (["--vgg19", good], 1, "--vgg19 is given without --vggface: the published loss has both networks"),
        (["--vgg19", good, "--vggface", f"{tmp_path}/none"], 2, f"{tmp_path}/none does not exist"),
        (["--vgg19", good, "--vggface", str(tmp_path)], 2, f"{tmp_path} is no file"),
        (["--vgg19", good, "--vggface", str(cut)], 1, f"{cut} is no file of weights, is damaged, or holds more"),
        (["--vgg19", str(cut), "--vggface", good], 1, f"{cut} is no file of weights, is damaged, or holds more"),
        (["--vgg19", published_files.vggface, "--vggface", good], 1, f"{published_files.vggface} is no VGG19: it"),
    ):
        assert sfumato.main(["meta-train", "demo", "--data", root, "-o", str(out), *flags]) == code
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"sfumato meta-train: error: {line}")
        assert not out.exists()


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_published_weights_only(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], published_files: PerceptualFiles
) -> None:
    root = make_dataset("ann/v1").root
    config = with_published_perceptual(demo(), published_files)
    assert config.perceptual == "vgg19_vggface"
    assert config.vgg19_sha256 == hashlib.sha256(Path(published_files.vgg19).read_bytes()).hexdigest()
    record = {"mlflow_run": "x", "config": asdict(config)}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_record(str(tmp_path), config) == json.loads(json.dumps(record))
    command = ["meta-train", "demo", "--data", root, "-o", str(tmp_path)]
    assert sfumato.main(command) == 1
    assert "perceptual: vgg19_vggface -> vgg16" in capsys.readouterr().err
    # The same numbers in another file are other weights: their sha256 is all that is known of them.
    other = tmp_path / "other.pth"
    state = torch.load(published_files.vgg19, weights_only=True)
    torch.save({**state, "classifier.6.bias": torch.zeros(2)}, other)
    assert sfumato.main([*command, "--vgg19", str(other), "--vggface", published_files.vggface]) == 1
    assert f"vgg19_sha256: {config.vgg19_sha256} -> " in capsys.readouterr().err
