"""How the site is built: `python -m sphinx -W --keep-going -n -b html docs FOLDER`; nothing is fetched for it."""

from __future__ import annotations

import builtins
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from docutils import nodes
from pydantic import BaseModel
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util.inspect import TypeAliasForwardRef

project = "asyncstore"
author = "the developers of asyncstore"
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["pictures"]
default_role = "name"
myst_heading_anchors = 4

html_theme = "furo"
html_title = "asyncstore"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
#: Unions with a name are shown by it.
autodoc_type_aliases = {name: f"~asyncstore.{name}" for name in ("Change", "Checkpoint", "JsonValue", "Scope", "Start")}
# Inside of a union or a list Sphinx 9.0 shows the object that stands for an alias.
TypeAliasForwardRef.__repr__ = lambda self: self.name  # type: ignore[method-assign]

#: Packages whose `__all__` is the API; the reference names each of those names once.
PUBLIC = ("asyncstore", "triggers", "asyncstore.testing", "triggers.testing", "asyncstore.fleet")
NAME = re.compile(r"[A-Za-z_][\w.]*(\(\))?")


def add_toctree(app: Sphinx, docname: str, source: list[str]) -> None:
    """Have an index page lead where its lists of links lead, in their order, so that it is a plain page on a forge.

    A page that no index page names is an error of the build.
    """
    if docname.rpartition("/")[2] == "index":
        links = re.findall(r"^- \[[^]]*\]\(((?:[\w-]+/index|[\w-]+)\.md)\)", source[0], re.MULTILINE)
        names = "\n".join(dict.fromkeys(link.removesuffix(".md") for link in links))
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:titlesonly:\n\n{names}\n```\n"


def name_role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = ()
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Read code in single backticks of a docstring: a link where it names something of the API."""
    literal = nodes.literal(rawtext, text)
    context = inliner.document.settings.env.ref_context
    return [_reference(literal, context.get("py:module"), context.get("py:class"))], []


def _reference(literal: nodes.literal, module: str | None, kind: str | None) -> nodes.Node:
    text = literal.astext()
    if not NAME.fullmatch(text):
        return literal
    target = text.removesuffix("()").removeprefix("self.")
    wanted = {"reftype": "name", "refdomain": "", "reftarget": target, "module": module, "kind": kind}
    return addnodes.pending_xref("", literal, **wanted)


class NamesInPages(SphinxTransform):
    """Make the first mention of a name of the API on a page of Markdown a link to its reference."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Go through the page."""
        if self.env.doc2path(self.env.docname).suffix != ".md":
            return
        seen: set[str] = set()
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext()
            inside = (nodes.title, nodes.reference, addnodes.pending_xref, addnodes.desc)
            if not text[:1].isupper() or text in seen or any(isinstance(each, inside) for each in _parents(literal)):
                continue
            seen.add(text)
            literal.replace_self(_reference(literal.deepcopy(), None, None))


def _parents(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def tidy_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Leave out how objects are made that users are given, and settings, whose arguments are the options."""
    given = "asyncstore.core." in (signature or "") or "_hand" in (signature or "")
    if what == "class" and (given or issubclass(obj, BaseModel)):
        return "", None
    return signature, returns


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, contnode: nodes.Element
) -> nodes.Node | None:
    """Find what a name means that Sphinx does not find by itself; None where it should complain."""
    target = node["reftarget"]
    if node["reftype"] == "name":
        first = [".".join(filter(None, each)) for each in ((node["module"], node["kind"]), (node["module"],), ())]
        found = _link(app, env, node, contnode, [f"{each}.{target}".lstrip(".") for each in (*first, *PUBLIC)])
        return contnode if found is None else found
    if node.get("refdomain") != "py":
        return None
    # An annotation names a class by where it is defined; other packages are known, but have no page here.
    meant = _locate(target)
    for module in PUBLIC:
        name = target.rpartition(".")[2]
        if meant is not None and getattr(importlib.import_module(module), name, None) is meant:
            return _link(app, env, node, contnode, [f"{module}.{name}"])
    foreign = target.partition(".")[0] not in {"asyncstore", "triggers"}
    parameter = isinstance(meant, TypeVar) or re.fullmatch(r"[A-Z]s?", target)
    return contnode if parameter or (foreign and meant is not None) else None


def _link(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, contnode: nodes.Element, names: list[str]
) -> nodes.Node | None:
    known = env.domains.python_domain.objects
    for name in names:
        if name in known:
            entry = known[name]
            return nodes.reference(
                "",
                "",
                contnode,
                internal=True,
                refuri=app.builder.get_relative_uri(node.get("refdoc", env.docname), entry.docname)
                + f"#{entry.node_id}",
                reftitle=name,
            )
    return None


def _locate(target: str) -> object | None:
    module, _, name = target.rpartition(".")
    if not module:
        return getattr(builtins, name, None)
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is above."""
    app.add_role("name", name_role)
    app.add_transform(NamesInPages)
    app.connect("source-read", add_toctree)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", tidy_signature)
    return {"parallel_read_safe": True}
