"""Texts to token vectors: the encoder, encoding jobs, a frozen model, where its files are."""
