"""MkDocs hook: the reference pages that are made from the code, and links to files outside docs/.

`make docs` builds them each time, so no flag, field or route can differ from the code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # MkDocs loads this file by its path

from http_api_page import http_api  # noqa: E402
from reference_pages import command_line, configuration  # noqa: E402

_SHIM = "https://unpkg.com/iframe-worker/shim"

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/command-line.md": command_line,
    "reference/configuration.md": configuration,
    "reference/http-api.md": http_api,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - named by MkDocs
    """Take the one script that the theme fetches from a CDN from this site."""
    return output.replace(_SHIM, f"{'../' * page.url.count('/')}iframe-worker.js")


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:  # noqa: ARG001
    """The same for the page of a wrong address, whose depth nobody knows."""
    return output_content.replace(_SHIM, "/iframe-worker.js")
