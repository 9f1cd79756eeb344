"""Files in and out: passages, collections in BEIR layout, keyword search, atomic writes and progress bars."""
