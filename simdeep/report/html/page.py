"""The page around the sections: head, answer, contents, foot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: an anchor, a heading, and its HTML."""

    anchor: str
    title: str
    body: str


def asset(name: str) -> str:
    """Text of a file that goes into every report."""
    return (files("simdeep.report.html") / "assets" / name).read_text(encoding="utf-8")


def page(
    title: str,
    headline: str,
    answer: str,
    sections: Sequence[Section],
    foot: str,
    scripts: Sequence[str] = (),
) -> str:
    """A whole document.

    Args:
        title: of the document, plain text.
        headline: the answer in a sentence, plain text.
        answer: HTML right under it: the table of the answer.
        sections: in order.
        foot: HTML of what the report was made from.
        scripts: script texts at the end of the body, in order.
    """
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{s.anchor}"><h2>{escape(s.title)}</h2>{s.body}</section>' for s in sections
    )
    code = "".join(f"<script>{_inside(text)}</script>" for text in (asset("page.js"), *scripts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><link rel='icon' href='data:,'>"
        f"<style>{asset('page.css')}</style></head><body>"
        f"<header><p class='kicker'>{escape(title)}</p><h1>{escape(headline)}</h1>{answer}</header>"
        "<button id='theme' type='button' hidden>Dark or light</button>"
        f"<nav aria-label='contents'><ul>{links}</ul></nav><main>{body}</main>"
        f"<footer>{foot}</footer>{code}</body></html>\n"
    )


def _inside(script: str) -> str:
    """A script that cannot end its own element early."""
    return script.replace("</script", "<\\/script")
