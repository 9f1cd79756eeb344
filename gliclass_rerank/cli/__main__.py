"""``python -m gliclass_rerank.cli``: the command line without the console script."""

from gliclass_rerank.cli.app import main

main()
