"""Where a base model comes from, as its folder names it."""

from __future__ import annotations

from pathlib import Path

from training.checkpoints.model_lineage import ModelLineage, is_shipped, known_lineage, run_line, run_of


def test_the_run_that_trained_a_model_is_found(tmp_path: Path) -> None:
    assert run_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text(f"# Card\n\n- Finished: today\n{run_line('4af0')}\n- Data: x\n")
    assert run_of(str(tmp_path)) == "4af0"  # an exported model has its card alone
    (tmp_path / "run.json").write_text("{}")
    assert run_of(str(tmp_path)) is None
    (tmp_path / "run.json").write_text('{"mlflow_run": "abc"}')
    assert run_of(str(tmp_path)) == "abc"


def test_the_bundled_model_is_known_by_its_version() -> None:
    version = "d7dfa273024664fc669e79d11e1c4204ec46eff11dcbd42d8f26413ced56774b"  # sha256sum of its manifest.json
    assert is_shipped(version)
    digest = "5598b8edcc022b4d4af702d37b8e4151ad058da5e1cb025efe1c8ed537b553b0"  # as its card says
    assert known_lineage(version) == ModelLineage(None, digest)
    assert known_lineage("0" * 64) == ModelLineage()
