"""``python -m tocsin.cli``, the same as ``tocsin``."""

from tocsin.cli import main

main()
