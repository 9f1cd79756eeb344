"""Make a reranker: from a bare encoder and questions with their passages to a GLiClass checkpoint."""
