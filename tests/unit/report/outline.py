"""A page taken apart for tests: its elements, its text, its scripts, and whether it is closed to the network."""

import re
from html.parser import HTMLParser

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class Outline(HTMLParser):
    """Elements with their attributes, text outside scripts, and the scripts' own text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = (dict(attrs).get("id") or tag) if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data
        else:
            self.text += data


def outline(html: str) -> Outline:
    parsed = Outline()
    parsed.feed(html)
    return parsed


def check_closed(html: str) -> Outline:
    """Nothing in the file asks for another."""
    parsed = outline(html)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "source"}
    for tag, attributes in parsed.elements:
        assert not set(attributes) & {"src", "srcset", "action", "ping", "background"}, tag
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in html
    assert "url(" not in parsed.scripts["style"]
    return parsed


def check_policy(html: str) -> None:
    """The page itself forbids requests and other scripts."""
    policy = next(a["content"] or "" for t, a in outline(html).elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "connect-src" not in policy
