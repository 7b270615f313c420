"""Building an index: one streamed pass over the corpus, shards turned into parts anywhere, parts merged into files."""
