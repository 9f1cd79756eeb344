"""The commands of ``gliclass-rerank``, one file each; ``cli.py`` puts them together."""
