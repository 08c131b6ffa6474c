"""What the documents promise: their length, and that what they name exists."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sfumato

ROOT = Path(__file__).parents[2]
CARD = "training/checkpoints/data/base_model/README.md"
EVALUATION = "docs/explanation/evaluation.md"
PAGES = ["README.md", CARD, *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
GENERATED = ("reference/command-line.md", "reference/configuration.md", "reference/http-api.md")
# Flags of other programs that the pages show.
_OF_OTHERS = {
    "--address",
    "--experiments",
    "--from-literal",
    "--generate",
    "--head",
    "--help",
    "--include-dashboard",
    "--machine_type",
    "--number_of_worker_harness_threads",
    "--parameters",
    "--region",
    "--template-file-gcs-location",
    "--version",
}
_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_FILE = re.compile(r"(?<![\w./-])(?:pipelines|training|serving|tests|infra|docs)/[\w./-]*\w\.\w+")


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """docs/hooks.py, which makes the reference pages."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flags(hooks: ModuleType) -> set[str]:
    """Every flag of every verb by its present name."""
    pages = sys.modules[hooks.command_line.__module__]
    parsers = [pages.parser_of(importlib.import_module(verb.module).Options) for verb in sfumato.VERBS.values()]
    known = {flag for parser in parsers for action in parser._actions for flag in pages.flags_of(action)}
    return known | {*sfumato.FLAGS_OF_EVERY_VERB}


def test_pages_that_have_to_be_short_are() -> None:
    assert len(text_of("README.md").splitlines()) < 120
    assert len(text_of(EVALUATION).split()) < 1500
    assert len(text_of(CARD).split()) < 900


@pytest.mark.parametrize("page", ["README.md", CARD])
def test_figures_of_the_base_model_are_those_of_the_evaluation(page: str) -> None:
    rows = _rows(text_of(page))
    assert rows
    assert rows <= _rows(text_of(EVALUATION))


def _rows(text: str) -> set[tuple[str, ...]]:
    """The rows of tables of people, T, method and figures."""
    lines = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines()]
    return {cells for cells in lines if len(cells) == 8 and cells[1].isdigit()}


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_make_target_and_link_exists(page: str) -> None:
    text = text_of(page)
    verbs = {verb.split()[0] for verb in sfumato.VERBS}
    assert set(re.findall(r"(?:^|`|^\$ )sfumato ([a-z][a-z-]*)", text, re.MULTILINE)) <= verbs
    targets = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`|^\$ )make ([a-z][a-z-]*)", text, re.MULTILINE)) <= set(targets)
    links = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text)
    generated = {f"docs/{name}" for name in GENERATED}
    places = [(ROOT / page).parent.joinpath(link).resolve() for link in links]
    assert [path for path in places if not path.exists() and str(path.relative_to(ROOT)) not in generated] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_flag_is_one_of_a_verb(page: str, flags: set[str]) -> None:
    assert set(_FLAG.findall(text_of(page))) - flags - _OF_OTHERS == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_repository_that_is_named_exists(page: str) -> None:
    assert [name for name in _FILE.findall(text_of(page)) if not (ROOT / name).exists()] == []


def test_pages_that_the_code_names_exist() -> None:
    files = [path for folder in ("pipelines", "training", "serving") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in files for name in re.findall(r"\bdocs/[\w./-]+\.md", path.read_text())}
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_picture_of_the_architecture_is_what_its_script_draws() -> None:
    script = ROOT / "docs" / "draw_architecture.py"
    drawn = runpy.run_path(str(script))["draw"]()
    assert (ROOT / "docs" / "images" / "architecture.svg").read_text() == drawn


@pytest.mark.parametrize("page", PAGES)
def test_python_in_a_page_imports_what_exists(page: str) -> None:
    for code in re.findall(r"^```python\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL):
        compile(code, page, "exec")
        for module, names in re.findall(r"^from ([\w.]+) import (.+)$", code, re.MULTILINE):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name)


def test_pages_made_from_the_code_are_these(hooks: ModuleType) -> None:
    assert set(hooks.PAGES) == set(GENERATED)


def test_every_verb_has_its_line_in_the_generated_page(hooks: ModuleType) -> None:
    page = hooks.command_line()
    for verb in sfumato.VERBS:
        assert f"\n## {verb}\n" in page
    assert "| `--json` |" in page
    assert "| `-o`, `--out` | `STR` |" in page


def test_the_configuration_page_has_every_preset_and_field(hooks: ModuleType) -> None:
    page = hooks.configuration()
    assert "| field | `paper` | `paper_ff` | `small` | `base` | `demo` |" in page
    assert "| `episodes_per_step` | `int` | `48` | Episodes" in page
    assert "### QueueRules" in page


def test_the_api_page_has_every_route_and_error(hooks: ModuleType) -> None:
    page = hooks.http_api()
    for route in ("POST /v1/avatars", "GET /v1/jobs/{job_id}/result", "DELETE /v1/jobs/{job_id}", "GET /healthz"):
        assert f"\n## {route}\n" in page
    assert "| 429 | `queue_full` | too many waiting jobs |" in page


@pytest.mark.filterwarnings("ignore")  # of MkDocs' own plugins
@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="(https?://[^"]+)', page.read_text())
        assert loaded == [], page
