from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.faces.head_pose import MIRRORED
from pipelines.faces.mediapipe_detector import MEDIAPIPE_TO_IBUG
from training.warp import skin_surface
from training.warp.fit_skin_surface import fit_surface, main, skin_points


def _symmetric_mesh(random: np.random.Generator) -> np.ndarray:
    """478 places; the 68 landmarks mirror each other as iBUG has it, the others in pairs."""
    mesh = np.zeros((478, 2))
    landmarks = MEDIAPIPE_TO_IBUG
    for point, partner in enumerate(MIRRORED):
        if point <= partner:
            place = random.uniform([0.05, -1], [0.7, 1]) * (point != partner, 1)
            mesh[landmarks[partner]], mesh[landmarks[point]] = place, place * [-1, 1]
    mesh[landmarks[36:42], 1] = mesh[landmarks[[45, 44, 43, 42, 47, 46]], 1] = -0.3  # eyes are level
    others = np.setdiff1d(np.arange(478), landmarks)
    for left, right in others.reshape(-1, 2):
        place = random.uniform([0.02, -1], [0.7, 1])
        mesh[left], mesh[right] = place * [-1, 1], place
    return mesh


@pytest.mark.slow
def test_a_linear_rule_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Faces of five smooth motions, seen from anywhere: what the landmarks do tells what all the skin does."""
    random = np.random.default_rng(0)
    base = _symmetric_mesh(random)
    x, y = base.T
    motions = np.stack(
        [np.stack(m, -1) for m in ((x * y, 0 * x), (0 * x, x * x), (0 * x, x), (y * y, 0 * x), (x, 0 * x))]
    )

    def faces(number: int) -> np.ndarray:
        meshes = base + np.einsum("fm,mpd->fpd", random.normal(0, 0.04, (number, 5)), motions)
        angles, scales = random.uniform(-0.3, 0.3, number), random.uniform(50, 150, number)
        turns = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], -1).reshape(-1, 2, 2)
        return scales[:, None, None] * meshes @ turns + random.uniform(0, 200, (number, 1, 2))

    fields = fit_surface(faces(400), 0.002)
    np.savez(tmp_path / "surface.npz", **fields)
    monkeypatch.setattr(skin_surface, "SURFACE_FILE", tmp_path / "surface.npz")
    skin_surface._load.cache_clear()
    try:
        unseen = faces(20)
        found = skin_surface.surface_points(torch.from_numpy(unseen[:, MEDIAPIPE_TO_IBUG]).float()).numpy()
    finally:
        skin_surface._load.cache_clear()
    skin = unseen[:, skin_points()]
    distances = np.linalg.norm(found[:, :, None] - skin[:, None], axis=-1).min(axis=2)
    eyes = np.linalg.norm(
        unseen[:, MEDIAPIPE_TO_IBUG[36:42]].mean(axis=1) - unseen[:, MEDIAPIPE_TO_IBUG[42:48]].mean(axis=1), axis=-1
    )
    assert (distances / eyes[:, None]).mean() < 0.01
    # The same rule for both halves.
    across = np.sort(fields["surface"][:, 0])
    np.testing.assert_allclose(across, -across[::-1], atol=1e-6)


def test_a_folder_that_is_no_data_set_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["surface_study", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert f"error: {tmp_path} is no data set" in capsys.readouterr().err.splitlines()[-1]
