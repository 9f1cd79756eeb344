"""Score millions of rows with Ray Data; a run that was stopped can be resumed."""
