import pytest
import torch

from training.models.identity_rows import IdentityRows, learned_rows

RATE = 0.1


def make_table(*video_ids: str, seed: int = 0) -> IdentityRows:
    return IdentityRows(video_ids, 3, learning_rate=RATE, seed=seed)


def test_a_row_seen_every_step_moves_as_dense_adam_moves_it() -> None:
    table = make_table("a", "b")
    dense = torch.nn.Parameter(table.rows[1:2].clone())
    adam = torch.optim.Adam([dense], RATE, betas=(0.0, 0.999))
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        gradient = torch.randn(1, 3, generator=generator)
        dense.grad = gradient.clone()
        adam.step()
        table.apply(torch.tensor([1]), gradient)
    assert torch.allclose(table.rows[1:2], dense.detach(), atol=1e-6)


def test_a_row_seen_first_at_step_1000_moves_as_a_fresh_one() -> None:
    table = make_table("often", "rare")
    gradient = torch.tensor([[0.5, -2.0, 1e-3]])
    for _ in range(1000):
        table.apply(torch.tensor([0]), gradient)
    before = table.rows[1].clone()
    table.apply(torch.tensor([1]), gradient)
    # Adam's first step is the learning rate in each direction, whatever the size of the gradient.
    assert torch.allclose(table.rows[1] - before, torch.tensor([-RATE, RATE, -RATE]), rtol=1e-3)


def test_gradients_of_a_row_named_twice_add_up_to_one_step() -> None:
    once, twice = make_table("a", "b"), make_table("a", "b")
    once.apply(torch.tensor([0]), torch.tensor([[3.0, 1.0, -1.0]]))
    twice.apply(torch.tensor([0, 0]), torch.tensor([[1.0, 2.0, -1.5], [2.0, -1.0, 0.5]]))
    assert torch.equal(once.rows, twice.rows)
    assert torch.equal(once.second_moments, twice.second_moments)
    assert twice.steps.tolist() == [1, 0]


def test_untouched_rows_stay() -> None:
    table = make_table("a", "b", "c")
    before = table.rows.clone()
    table.apply(torch.tensor([1]), torch.ones(1, 3))
    assert torch.equal(table.rows[[0, 2]], before[[0, 2]])
    assert not torch.equal(table.rows[1], before[1])
    assert table.steps.tolist() == [0, 1, 0]


def test_gathered_rows_are_leaves_apart_from_the_table() -> None:
    table = make_table("a", "b")
    leaf = table.gather(table.indices(["b", "a", "b"]))
    leaf.sum().backward()
    assert leaf.is_leaf
    assert torch.equal(leaf.detach()[0], table.rows[1])
    assert leaf.grad is not None
    assert leaf.grad.shape == (3, 3)
    assert not table.rows.requires_grad


def test_rows_are_found_by_video_id_in_another_order_and_new_ones_keep_their_start() -> None:
    old = make_table("a", "b", "gone")
    old.apply(torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]]))
    old.apply(torch.tensor([1]), torch.tensor([[0, 1.0, 0]]))
    new = make_table("new", "b", "a", seed=5)
    start = new.rows[0].clone()
    new.load(old.video_ids, old.state())
    assert torch.equal(new.rows, torch.stack([start, old.rows[1], old.rows[0]]))
    assert torch.equal(new.second_moments, torch.stack([torch.zeros(3), *old.second_moments[[1, 0]]]))
    assert new.steps.tolist() == [0, 2, 1]


def test_loading_a_table_of_strangers_changes_nothing() -> None:
    table = make_table("a")
    before = table.rows.clone()
    table.load(["x"], make_table("x", seed=9).state())
    assert torch.equal(table.rows, before)


def test_a_video_id_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="distinct"):
        make_table("a", "a")


def test_what_has_to_be_kept_are_the_rows_that_a_step_has_touched() -> None:
    table = make_table("a", "b", "c", seed=7)
    assert learned_rows(table.video_ids, table.state())[0] == []
    table.apply(torch.tensor([2, 0]), torch.ones(2, 3))
    ids, state = learned_rows(table.video_ids, table.state())
    assert ids == ["a", "c"]
    again = make_table("a", "b", "c", seed=7)
    again.load(ids, state)
    for name, values in table.state().items():
        assert torch.equal(again.state()[name], values), name
