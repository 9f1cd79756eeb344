"""``python -m gliclass_rerank.cli``: the command line where the script ``gliclass-rerank`` is not on the path."""

from gliclass_rerank.cli.app import main

main()
