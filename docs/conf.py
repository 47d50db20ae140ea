"""How the documentation is built: Markdown in, static pages out, nothing fetched."""

from importlib.metadata import version as version_of

project = "Atoll"
author = "the Atoll contributors"
project_copyright = "the Atoll contributors, Apache-2.0"
version = release = version_of("atoll")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = False

# Headings can be linked to: page.md#some-heading.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Atoll {release}"
html_show_sphinx = False
html_copy_source = False
