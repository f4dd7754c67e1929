"""Markdown to HTML that can do nothing: no markup of the author's, no images, no requests, no scripts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup

_ALLOWED = re.compile(r"(https?://|mailto:)", re.IGNORECASE)
# What HTML cannot carry, and marks that reorder or hide the text around them.
_CONTROL = {c: 0x2400 + c for c in range(0x20) if c not in (0x09, 0x0A)} | {0x7F: 0x2421}
_INVALID = re.compile("[\ud800-\udfff\x80-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]")


def visible(text: str) -> str:
    """``text`` with nothing in it that a page cannot show: control characters become their pictures,
    what is invalid or turns the direction of its surroundings becomes U+FFFD."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVALID.sub("\ufffd", text).translate(_CONTROL)


def markdown(text: str, shift: int = 0, breaks: bool = True) -> Markup:
    """CommonMark with tables and strikethrough; with ``breaks``, each line break is kept as it was written.

    Markup in the text is shown, not obeyed. Images become their description and address, since to
    load one would tell its host who reads. Links open elsewhere and only to http, https and mailto.
    Headings go down by ``shift`` levels, so that an answer cannot pose as the page's title.
    """
    return Markup(_PARSERS[breaks].render(visible(text), {"shift": shift}))


class _Renderer(RendererHTML):
    """The stock renderer but for images, links, cells and headings."""

    def image(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[index]
        said = self.renderInlineAsText(token.children or [], options, env)
        return f'<span class="image">[image: {escapeHtml(said)} {escapeHtml(str(token.attrs["src"]))}]</span>'

    def link_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        href = escapeHtml(str(tokens[index].attrs["href"]))
        return f'<a href="{href}" title="{href}" target="_blank" rel="noopener noreferrer nofollow">'

    def th_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return "<th>"  # the stock one aligns by an inline style, which the pages' policy forbids

    def td_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return "<td>"

    def heading_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return f"<{_heading(tokens[index], env)}>"

    def heading_close(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        return f"</{_heading(tokens[index], env)}>\n"


def _heading(token: Token, env: EnvType) -> str:
    return f"h{min(6, int(token.tag[1]) + int(env['shift']))}"


def _parser(breaks: bool) -> MarkdownIt:
    options = {"html": False, "breaks": breaks, "linkify": False}
    parser = MarkdownIt("commonmark", options, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"])
    parser.validateLink = lambda url: bool(_ALLOWED.match(url.strip()))  # type: ignore[method-assign]
    return parser


_PARSERS = {breaks: _parser(breaks) for breaks in (True, False)}
