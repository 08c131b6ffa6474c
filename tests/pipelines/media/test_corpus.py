"""A tenth of the corpus of films (tests/support/media_corpus.py): each is done as it should be, or refused by name."""

from pathlib import Path

import pytest
from media_corpus import check
from media_recipes import Recipe, recipes

ALL = recipes()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe for recipe in ALL if recipe.quick], ids=lambda recipe: recipe.name)
def test_a_film_keeps_colours_frames_times_and_sound_or_is_refused_by_name(recipe: Recipe, tmp_path: Path) -> None:
    assert (check(recipe, tmp_path) == "refused") == bool(recipe.refused)


def test_the_corpus_has_a_few_hundred_films() -> None:
    assert len(ALL) > 200
