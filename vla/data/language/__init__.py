"""Images with dialogues in LLaVA's format: what a vision-language model sees of them, datasets, batches."""
