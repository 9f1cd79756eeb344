"""The command line ``gliclass-rerank``: one file per command; ``app.py`` joins them."""
