"""Writes the table of what can be seen into `docs/audit-chain.md`: ``python docs/generate_chain_table.py``."""

from __future__ import annotations

from pathlib import Path

from tocsin_chain.seeing import markdown

PAGE = Path(__file__).with_name("audit-chain.md")
BEGIN, END = "<!-- seeing: begin -->\n", "<!-- seeing: end -->\n"


def generated(page: str) -> str:
    """The page with the table as it is now."""
    head, _, rest = page.partition(BEGIN)
    return head + BEGIN + markdown() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text()))
