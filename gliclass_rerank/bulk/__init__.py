"""Score files of rows with Ray Data, resumably."""
