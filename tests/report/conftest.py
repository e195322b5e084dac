"""What a test of a report asks of a page."""

from html.parser import HTMLParser

import pytest


class Page(HTMLParser):
    """What a test asks of a page: tables as lists of text, values of ``<data>``, attributes, plain text."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tables, self.values, self.attributes, self.open, self.text, self.titles = [], [], [], [], "", []
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.attributes += [(tag, name, value) for name, value in attributes.items()]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag == "data":
            self.values.append(float(attributes["value"]))
        if tag == "abbr":
            self.titles.append(attributes["title"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if self.open and ("td" in self.open or "th" in self.open):
            self.tables[-1][-1][-1] += data

    def sources(self, tag="img"):
        return [value for found, name, value in self.attributes if found == tag and name == "src"]


@pytest.fixture
def read_page():
    """Give what reads a page from its path."""
    return Page
