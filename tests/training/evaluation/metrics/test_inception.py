"""The FID's Inception: its size as published, and that its weights are read by their published names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from training.evaluation.metrics.inception import Inception, load_inception


@pytest.fixture(scope="module")
def network() -> Inception:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Inception().eval()


def test_architecture_has_as_many_parameters_as_published(network: Inception) -> None:
    """23,834,568 without the auxiliary classifier and with 1,000 classes; the FID's file has 8 classes more."""
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_834_568 + 8 * 2049


def test_names_are_those_of_the_published_file(network: Inception) -> None:
    names = network.state_dict().keys()
    assert {"Conv2d_1a_3x3.conv.weight", "Mixed_6c.branch7x7dbl_5.bn.running_var", "fc.bias"} <= names
    assert network.state_dict()["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert network.state_dict()["fc.weight"].shape == (1008, 2048)


def test_last_block_pools_by_maximum_and_others_do_not_count_the_padding(network: Inception) -> None:
    with torch.inference_mode():
        flat = torch.ones(1, 1280, 8, 8)
        block = network.Mixed_7b
        # A flat picture stays flat under an average without padding, so the pooled branch has one value a channel.
        pooled = block(flat)[:, -192:]
        assert torch.allclose(pooled, pooled[..., :1, :1].expand_as(pooled), atol=1e-5)
        point = torch.zeros(1, 2048, 8, 8)
        point[:, :, 4, 4] = 1
        last = network.Mixed_7c
        at_point, beside, away = (last(point)[0, -192:, 4, column] for column in (4, 3, 1))
        torch.testing.assert_close(at_point, beside)  # a maximum is as high beside the point; a mean would be too,
        torch.testing.assert_close(at_point, last.branch_pool(torch.ones(1, 2048, 1, 1))[0, :, 0, 0])  # but not as high
        assert not torch.allclose(at_point, away)


def test_features_are_2048_numbers_whatever_the_size(network: Inception) -> None:
    with torch.inference_mode():
        features = network(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 2048)
    assert torch.isfinite(features).all()


@pytest.mark.slow
def test_both_kinds_of_file_are_read(network: Inception, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    save_file(network.state_dict(), tmp_path / "inception.safetensors")
    for name in ("inception.pth", "inception.safetensors"):
        loaded, digest = load_inception(str(tmp_path / name))
        assert len(digest) == 64
        torch.testing.assert_close(loaded.fc.weight, network.fc.weight)


@pytest.mark.slow
def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        load_inception(str(tmp_path / "gone.pth"))
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"x": Path("code")}, tmp_path / "code.pth")
    for name in ("text.pth", "text.safetensors", "other.pth", "list.pth", "code.pth"):
        with pytest.raises(ValueError, match=rf"{name} holds no weights of the FID's Inception network: [^\n]+$"):
            load_inception(str(tmp_path / name))
