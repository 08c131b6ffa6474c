"""The bundled base model: complete, small, as its card says, and the default of the commands."""

import hashlib
import json
from pathlib import Path

import pytest

import sfumato
from training.avatars.avatar import load_avatar
from training.checkpoints.bundle import MANIFEST, load_bundle
from training.checkpoints.shipped import SHIPPED

PICTURE = Path(sfumato.__file__).parent / "pipelines" / "assets" / "data" / "mona_lisa.jpg"


def test_it_is_whole_and_small_enough_for_a_repository() -> None:
    model = load_bundle(SHIPPED)
    assert model.config.model.warp_prior
    sizes = [path.stat().st_size for path in Path(SHIPPED).iterdir()]
    assert max(sizes) <= 16_000_000
    assert sum(sizes) < 48_000_000


def test_its_card_names_its_version_files_and_training() -> None:
    card = (Path(SHIPPED) / "README.md").read_text()
    for name, digest in json.loads((Path(SHIPPED) / MANIFEST).read_bytes())["sha256"].items():
        assert f"| {name} | `{digest}` |" in card
    origin = load_bundle(SHIPPED).origin
    assert f"{origin.step:,} steps" in card
    assert f"{origin.images_seen:,} images" in card


def test_an_empty_name_is_refused_and_does_not_mean_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sfumato.main(["fine-tune", str(PICTURE), "-o", str(tmp_path / "her"), "--model", ""]) != 0
    assert "sfumato fine-tune: error: " in capsys.readouterr().err
    assert not (tmp_path / "her").exists()


@pytest.mark.slow
def test_fine_tune_takes_it_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sfumato.main(["fine-tune", str(PICTURE), "-o", str(tmp_path / "her"), "--num-steps", "0"]) == 0
    version = hashlib.sha256((Path(SHIPPED) / MANIFEST).read_bytes()).hexdigest()
    assert load_avatar(str(tmp_path / "her")).base_version == version


@pytest.mark.slow
def test_one_picture_is_not_fine_tuned_with_it_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sfumato.main(["fine-tune", str(PICTURE), "-o", str(tmp_path / "her"), "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert outcome["counts"] == {"portraits": 1, "steps": 0}
    assert outcome["notes"] == ["no updates were made: feed-forward; --num-steps asks for some"]
