"""Questions about images as nanoVLM learns them: images cut into tiles, dialogues, sources, packed streams."""
