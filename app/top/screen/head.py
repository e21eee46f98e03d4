"""The lines above the tables as one widget."""

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import Static

from app.top.model.snapshot import Snapshot
from app.top.text import headline
from app.top.text.headline import Piece


class Head(Static):
    """Totals, books and troubles, in as few lines as the width allows."""

    def show(self, snapshot: Snapshot, width: int, title: Sequence[Piece]) -> None:
        """Draw the lines below `title`; `width` is characters."""
        text = Text(no_wrap=True, overflow="ellipsis")
        for head in (title, *headline.heads(snapshot)):
            for line in headline.packed(head, width):
                text.append("\n" if text else "")
                for number, piece in enumerate(line):
                    text.append(headline.GAP if number else "")
                    text.append(f"{piece.name} " if piece.name else "", "dim")
                    text.append(piece.value, f"bold {piece.tone.value}".strip())
        self.update(text)
