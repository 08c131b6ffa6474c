"""The verb on a tiny model and drawn faces, with the real measuring networks."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import sfumato
from pipelines.dataset.reader import ShardDataset
from training.checkpoints.bundle import TrainingProvenance
from training.config import TrainConfig
from training.losses.loss_networks import LossNetworks
from training.losses.perceptual import PerceptualNetwork
from training.meta_training.checkpoint import save_bundle
from training.meta_training.collectives import SingleProcess
from training.meta_training.step import Learner
from training.models.identity_rows import IdentityRows

MakeDataset = Callable[..., ShardDataset]


@pytest.fixture
def bundle(
    tmp_path: Path, tiny_train: Callable[..., TrainConfig], random_perceptual: PerceptualNetwork
) -> Callable[..., str]:
    """`bundle("name", warp_prior=...)`: an untrained model's folder."""

    def make(name: str, **changes: object) -> str:
        config = tiny_train(**{key: value for key, value in changes.items() if key == "warp_prior"})
        if "detector" in changes:
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, detector="dlib"))
        table = IdentityRows(["ann/v1"], config.model.embedding_size, learning_rate=0.1)
        learner = Learner(
            config, table, LossNetworks(config.losses, random_perceptual), SingleProcess(), torch.device("cpu")
        )
        save_bundle(str(tmp_path / name), learner.snapshot(), TrainingProvenance(0, 0, "set", "d" * 64))
        return str(tmp_path / name)

    return make


@pytest.mark.slow
def test_mistakes_are_one_line(
    bundle: Callable[..., str], make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = bundle("model", warp_prior=True), make_dataset("ann/v1", num_frames=6).root
    gone, out = str(tmp_path / "gone"), str(tmp_path / "out")
    for words, code, message in (
        ([gone, "--data", data], 2, "gone does not exist"),
        ([model, "--data", gone], 2, "gone does not exist"),
        ([model, "--data", data], 1, "has no videos in the split test; choose another --split"),
        ([model, "--data", data, "--split", "train"], 1, "has the 9 frames that T = 1 and 8 hold-out frames take"),
        ([model, "--data", data, "--videos", "0"], 1, "num_videos must be at least 1, not 0"),
        ([model, "--data", data, "--split", "train", "--size", "64"], 1, "--size has to be 32 to 48, the size of the"),
        ([model, "--data", data, "--compare", "published"], 1, "--compare takes NAME=PATH, got 'published'"),
        ([model, "--data", data, "--compare", f"ours={model}"], 1, "there is a row 'ours' already"),
        ([model, "--data", data, "--compare", f"x={bundle('other', detector=1)}"], 1, "x has detector dlib"),
        (
            ["shipped", "--data", data, "--compare", f"x={model}"],
            1,
            "x has image_size 32, shipped has 96: no one table",
        ),
        ([model, "--data", data, "--split", "train", "--frames", "2", "--fid-weights", gone], 2, "gone does not exist"),
    ):
        assert sfumato.main(["evaluate", *words, "-o", out]) == code
        assert re.fullmatch(rf"sfumato evaluate: error: .*{re.escape(message)}.*\n", capsys.readouterr().err)
    assert not Path(out, "report.md").exists()


def test_a_data_set_without_pairs_is_one_line(
    bundle: Callable[..., str], make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = bundle("model", warp_prior=True), make_dataset("ann/v1", "bob/v2", num_frames=6).root
    words = ["evaluate", model, "--data", data, "--split", "all", "--paired", "-o", str(tmp_path / "out")]
    assert sfumato.main(words) == 1
    assert capsys.readouterr().err == (
        f"sfumato evaluate: error: {data} has no pairs: among the 2 people of the split all no two do the same two "
        "motions with frames of equal numbers\n"
    )
    assert sfumato.main([*words, "--num-cross-pairs", "2"]) == 2
    assert "--num-cross-pairs drives portraits without a truth, --paired with one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_paired_report_compares_landmarks_and_is_gone_on_with(
    bundle: Callable[..., str],
    make_paired: Callable[..., ShardDataset],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mlflow_uri: str,
) -> None:
    from mlflow.tracking import MlflowClient

    model, data, out = bundle("model", warp_prior=True), make_paired(2, 2).root, tmp_path / "out"
    words = ["evaluate", model, "--data", data, "-o", str(out), "--split", "all", "--paired", "--shots", "1", "4", "32"]
    words += ["--videos", "3", "--frames", "4", "--size", "48", "--json"]
    assert sfumato.main([*words, "--mlflow", mlflow_uri]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["counts"] == {"pairs": 3, "frames": 12}
    assert outcome["notes"] == ["T = 32: 3 pairs have too few frames"]
    report = json.loads((out / "report.json").read_text())
    assert report["paired"] is True
    assert 50 < report["shared_area"] <= 100
    raw, held = ", raw landmarks", "warp of the person"
    driven = [f"{row}{landmarks}" for row in ("warp alone", held, "ours", "landmarks alone") for landmarks in ("", raw)]
    methods = ["true frame", "static portrait", "nearest frame", *driven]
    assert [(table["shots"], table["videos"]) for table in report["tables"]] == [(1, 3), (4, 3)]
    assert all([row["method"] for row in table["rows"]] == methods for table in report["tables"])
    errors = {row["method"]: row["figures"]["landmark_error"]["mean"] for row in report["tables"][0]["rows"][-2:]}
    assert errors["landmarks alone"] < errors[f"landmarks alone{raw}"]
    markdown, page = ((out / name).read_text() for name in ("report.md", "report.html"))
    assert "3 pairs, 12 frames." in markdown
    assert "drawn and measured at 48 x 48 pixels" in markdown
    assert "landmarks are retargeted but in rows that say raw landmarks" in markdown
    assert "Best, median and worst pair" in page
    assert "driven by id" in page
    (run,) = MlflowClient(mlflow_uri).search_runs(["1"])
    assert "evaluation/paired/T1/ours_raw_landmarks/lpips" in run.data.metrics
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (out / "parts").glob("*/*"))
    assert sfumato.main(words) == 0
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (out / "parts").glob("*/*")) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_report_has_every_method_for_every_t_and_goes_to_mlflow(
    bundle: Callable[..., str],
    make_dataset: MakeDataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mlflow_uri: str,
) -> None:
    from mlflow.tracking import MlflowClient

    model, published = bundle("model", warp_prior=True), bundle("plain", warp_prior=False)
    data = make_dataset("ann/<b>", "bob/v1", num_frames=[7, 5]).root
    out, uri = tmp_path / "out", mlflow_uri
    words = [
        "evaluate",
        model,
        "--data",
        data,
        "-o",
        str(out),
        "--split",
        "train",
        "--frames",
        "3",
        "--shots",
        "1",
        "4",
    ]
    words += ["--num-cross-pairs", "1", "--compare", f"published={published}", "--fine-tune", "--num-steps", "0"]
    assert sfumato.main([*words, "--mlflow", uri, "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["counts"] == {"videos": 2, "frames": 6, "pairs": 1}
    assert "T = 4: 1 videos have too few frames" in outcome["notes"]
    report = json.loads((out / "report.json").read_text())
    networks = ["ours", "ours, fine-tuned", "published", "published, fine-tuned"]
    warps = ["warp alone", "warp of the person"]
    rows = ["true frame", "static portrait", "mean frame", "nearest frame", *warps, *networks]
    assert [(table["shots"], table["videos"]) for table in report["tables"]] == [(1, 2), (4, 1)]
    assert all([row["method"] for row in table["rows"]] == rows for table in report["tables"])
    assert [row["method"] for row in report["driving"]["rows"]] == [
        "motion asked for", "static portrait", *warps, *networks,
    ]  # fmt: skip
    truth = report["tables"][0]["rows"][0]
    assert truth["figures"]["ssim"]["mean"] == pytest.approx(1)
    assert truth["figures"]["lpips"]["mean"] == 0
    assert truth["frechet"] == {"value": pytest.approx(0, abs=1e-6), "frames": 6}
    assert report["frames_of"].startswith("hold-out frames of training videos")
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    assert "ann/&lt;b&gt;" in page
    assert "ann/<b>" not in page
    assert page.count("<img") > 50
    assert "Fréchet distance, VGG16 features" in text
    assert "CSIM truth (SFace)" in text
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("sfumato").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["evaluation/T1/ours/ssim"] == pytest.approx(
        report["tables"][0]["rows"][6]["figures"]["ssim"]["mean"]
    )
    assert len(client.list_artifacts(run.info.run_id, "evaluation")) == 3
    # The same command takes up what is there and says the same, but for the seconds.
    before = (out / "report.json").read_text()
    kept = {part: part.stat().st_mtime_ns for part in (out / "parts").rglob("*.npz")}
    assert len(kept) == 3
    assert sfumato.main(words) == 0
    assert (out / "report.json").read_text() == before
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
