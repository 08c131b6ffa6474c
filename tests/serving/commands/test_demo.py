import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import sfumato
from pipelines import assets
from pipelines.planning.sources import Source, find_sources
from serving.commands import demo


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Stand-ins for the assets, without the optional clips that need npm."""
    found = {}
    for name in (
        "clip_langer",
        "clip_single_face",
        "clip_face_noface",
        "clip_noface_face",
        "clip_carphone",
        "mona_lisa",
    ):
        found[name] = tmp_path / f"{name}.mp4"
        found[name].write_bytes(name.encode())
    return found


def stages(out: Path, paths: dict[str, Path]) -> list[tuple[str, ...]]:
    out.mkdir()
    return [command for _, _, command in demo.commands(out, paths, None)]


def synthesize_stub(out: Path, synthesize: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the `synthesize` command with a few bytes in place of each clip."""
    from pipelines.commands import synthesize as synthesize_command
    from pipelines.synthetic.corpus.corpus import plan_clips

    def write(options: synthesize_command.Options) -> None:
        for spec in plan_clips(options.corpus_config()):
            clip = Path(spec.url(options.out))
            clip.parent.mkdir(parents=True, exist_ok=True)
            clip.write_bytes(str(spec.key).encode())
        raise ValueError("stub")

    monkeypatch.setattr(synthesize_command, "run", write)
    assert sfumato.main([*synthesize]) == 1


def test_stages_run_in_order(tmp_path: Path, paths: dict[str, Path]) -> None:
    commands = stages(tmp_path / "demo", paths)
    assert [command[0] for command in commands] == ["synthesize", "preprocess", "meta-train", "fine-tune", "animate"]
    assert commands[0][1] == str(tmp_path / "demo" / "corpus")


def test_a_device_is_passed_to_every_stage_that_has_networks(tmp_path: Path, paths: dict[str, Path]) -> None:
    stages(tmp_path / "demo", paths)
    found = {command[0]: command for *_, command in demo.commands(tmp_path / "demo", paths, 5, "cpu")}
    assert [name for name, command in found.items() if command[-2:] == ("--device", "cpu")] == ["fine-tune", "animate"]
    on_gpu = [command for *_, command in demo.commands(tmp_path / "demo", paths, 5, "cuda:1", uses_gpu=True)]
    assert on_gpu[2][-5:] == ("--gpus", "--workers", "1", "--num-steps", "5")
    assert [command[-1] for command in on_gpu[3:]] == ["cuda:1", "cuda:1"]


def test_a_device_that_is_not_here_is_one_line(
    run_sfumato: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_sfumato("demo", "-o", str(tmp_path / "demo"), "--device", "cuda:99")
    assert done.returncode == 1
    assert done.stderr == "sfumato demo: error: --device cuda:99: there is no such CUDA device here\n"
    assert not (tmp_path / "demo").exists()


def test_real_and_synthetic_clips_make_one_data_set(
    tmp_path: Path, paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two synthetic people form the test split, all real people are trained on; no two clips share a path."""
    out = tmp_path / "demo"
    synthesize, preprocess, *_ = stages(out, paths)
    synthesize_stub(out, synthesize, monkeypatch)
    found = [source for source in find_sources(preprocess[1]) if isinstance(source, Source)]
    real = [source for source in found if not source.key.identity.startswith("id2")]
    assert [(source.key.identity, source.split) for source in real] == [
        ("woman", None),
        *[("man-at-door", None)] * 3,
        ("man-in-car", None),
    ]
    splits = {source.key.identity: source.split for source in found if source not in real}
    assert list(splits) == [f"id{number}" for number in range(20001, 20013)]
    assert list(splits.values()) == ["train"] * 10 + ["test"] * 2
    assert len({source.relative for source in found}) == len(found) == 17
    assert {flag: preprocess[preprocess.index(flag) + 1] for flag in ("--val-fraction", "--test-fraction")} == {
        "--val-fraction": "0",
        "--test-fraction": "0",
    }


@pytest.mark.slow
def test_a_stage_that_fails_ends_the_demo_with_its_name(
    tmp_path: Path, paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OUT/corpus is a foreign file: `synthesize` reports it, and the demo names the stage."""
    out = tmp_path / "demo"
    out.mkdir()
    (out / "corpus").write_text("notes")
    monkeypatch.setattr(assets, "fetch_many", lambda names: {name: paths.get(name, Path(name)) for name in names})
    assert sfumato.main(["demo", "-o", str(out)]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.endswith("the synthetic people could not be made: `sfumato synthesize` ended with code 1")
