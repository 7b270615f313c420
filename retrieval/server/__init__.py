"""The retrieval server: any retriever over HTTP, in the dialects of the field."""
