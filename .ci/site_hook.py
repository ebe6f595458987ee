"""What mkdocs.yml needs beside plugins: the repository's layout, notebooks, generated pages, equations as MathML.

A document has the same path in the site as in the repository, so a relative link holds in both. A link to a file
that is no page of the site, as a source file, becomes the file's name. Plugins that generate pages or show notebooks
keep their pages below docs/, do not check the links of notebooks, or load scripts from other hosts.
"""

import argparse
import html
import os
import posixpath
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

from reconpatch.cli.arguments import make_parser

ROOT = Path(__file__).parent.parent
BESIDE_DOCS = ["README.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md"]
BESIDE_DOCS += ["benchmarks/RESULTS.md", "benchmarks/NOTES.md"]
CODE_OR_LINK = re.compile(r"```.*?```|`[^`\n]+`|(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)[^)\s]*\)", re.DOTALL)
BADGE = re.compile(r"^\[!\[.*\n", re.MULTILINE)  # of the code host, relative to its page of the README
EQUATION = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)
LATE = "---\nsearch: {boost: 0.2}\n---\n"  # guides come first in what a search finds
TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)


class NotebookPage(File):
    """A notebook, whose content is already Markdown."""

    def is_documentation_page(self) -> bool:
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Files of docs/ and of the theme -> all files of the site."""
    site = Files([file for file in files if file.src_dir != config.docs_dir])
    documents = [f"docs/{file.src_uri}" for file in files if file.src_dir == config.docs_dir]
    for path in [*BESIDE_DOCS, *documents]:
        if path.endswith(".ipynb"):
            add_notebook(path, site, config)
        else:
            site.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    for path, content in {"command-line.md": command_line(), **api_pages()}.items():
        site.append(File.generated(config, path, content=content))
    return site


def add_notebook(path: str, site: Files, config: MkDocsConfig) -> None:
    """A page of the notebook with the outputs that it was saved with, and the pictures among them."""
    name = Path(path).stem
    resources = {"unique_key": name, "output_files_dir": f"{name}_files"}
    markdown, resources = MarkdownExporter().from_filename(str(ROOT / path), resources)
    markdown = markdown.replace('<table border="1" class="dataframe">', "<table>")  # as the theme has tables
    markdown = markdown.replace(f"![png]({name}_files", f"![output of the code above]({name}_files")
    site.append(NotebookPage.generated(config, path, content=markdown))
    for picture, content in resources["outputs"].items():
        site.append(File.generated(config, posixpath.join(posixpath.dirname(path), picture), content=content))


def api_pages() -> dict[str, str]:
    """One page for the class that users import and one for each subpackage; mkdocstrings finds their modules."""
    options = "    options: {heading_level: 1, show_root_heading: true, show_root_toc_entry: true}\n"
    pages = {"api/reconpatch.md": f"::: reconpatch.ReConPatch\n{options}"}
    for package in sorted((ROOT / "reconpatch").glob("*/__init__.py")):
        name = package.parent.name
        if name != "cli":  # its users call commands
            pages[f"api/{name}.md"] = f"{LATE}# reconpatch.{name}\n\n::: reconpatch.{name}\n"
    return pages


def command_line() -> str:
    """What `--help` of each command prints."""
    parser = make_parser()
    (commands,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    page = "# Command line\n\nWhat `reconpatch --help` and `reconpatch COMMAND --help` print.\n"
    with patch.dict(os.environ, COLUMNS="82"):
        for title, each in {"reconpatch": parser, **commands}.items():
            page += f"\n## {title}\n\n```text\n{each.format_help()}```\n"
    return page


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Links to files of the repository that are no pages become their names; badges are left out."""
    folder = posixpath.dirname(page.file.src_uri)

    def without_link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["target"] or ""))
        if match["target"] is None or target in files.src_uris or not (ROOT / target).exists():
            return match[0]
        return f"`{target}`" if target in match["text"] else f"{match['text']} (`{target}`)"

    return CODE_OR_LINK.sub(without_link, BADGE.sub("", markdown))


def on_page_content(content: str, **_: Any) -> str:
    """Equations -> MathML, which browsers show without a script. Tables can be scrolled by keys. The search finds no
    source code.
    """
    content = TABLE.sub(r'<div class="wide" tabindex="0">\g<0></div>', EQUATION.sub(mathml, content))
    return content.replace(
        '<details class="mkdocstrings-source"', '<details data-search-exclude class="mkdocstrings-source"'
    )


def mathml(match: re.Match[str]) -> str:
    """An equation of arithmatex -> MathML; PluginError for what latex2mathml cannot read."""
    tex = html.unescape(match["tex"]).strip().replace("{aligned}", "{align*}")  # which latex2mathml knows
    try:
        made = convert(tex, display="block" if match["tag"] == "div" else "inline")
    except Exception as error:  # of many classes
        raise PluginError(f"no MathML for {tex}: {error!r}") from error
    if unknown := re.search(r"<mi>(&|\\\w+)</mi>", made):
        raise PluginError(f"no MathML for {tex}: {unknown[1]} is not known")
    return made.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')  # both bars of a norm alike


def on_post_page(output: str, **_: Any) -> str:
    """The theme's search has no name that a screen reader could say."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
