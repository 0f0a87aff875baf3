"""The Space Model itself: operators, losses, products; torch and RaggedArray only, fit to be copied out."""
