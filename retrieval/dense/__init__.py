"""Dense retrieval: a sentence encoder, its embeddings on disk, and exact or approximate search over them."""
