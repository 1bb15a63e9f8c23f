"""What a page shows and loads, as a browser would find it."""

from html.parser import HTMLParser

_LOADING = ("src", "href", "xlink:href", "srcset", "data")  # attributes
_NEVER_CLOSED = ("meta", "img", "br", "link")


class Page(HTMLParser):
    """A page, taken apart; fails unless its tags are closed in order.

    Args:
        text: of the page.

    Attributes:
        loads: what a browser would load.
        words: texts between tags, without spaces around them.
        best: of them, those that are marked as the best of their row.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []
        self.best: list[str] = []
        self._open: list[str] = []
        self._is_best = False
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in _LOADING]
        self._is_best = ("class", "best") in attrs
        if tag not in _NEVER_CLOSED:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _NEVER_CLOSED:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._is_best:
            self.best.append(data)
            self._is_best = False
        self.words.append(data.strip())
