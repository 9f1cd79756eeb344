"""Files and first stages: BEIR collections, passage files, BM25, atomic writes, progress bars."""
