"""What users hand over, as the types that everything passes on: texts, labels, RaggedArray."""
