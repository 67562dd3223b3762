"""What a report's file holds, read without a browser."""

from __future__ import annotations

from html.parser import HTMLParser


class Static(HTMLParser):
    """Text outside scripts, everything the file would fetch, anchors and drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.fetched, self.ids, self._in = [], [], [], []
        self.drawings = 0

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "style"):
            self._in.append(tag)
        self.drawings += tag == "svg"
        for name, value in attrs:
            if name in ("src", "srcset", "data") or (name == "href" and tag == "link"):
                self.fetched.append(value)
            if name == "id" and tag == "section":
                self.ids.append(value)

    def handle_endtag(self, tag):
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data):
        if not self._in:
            self.text.append(data)

    @property
    def said(self) -> str:
        """All text."""
        return " ".join(self.text)


def read_static(text: str) -> Static:
    """A report as a parser sees it."""
    page = Static()
    page.feed(text)
    return page
