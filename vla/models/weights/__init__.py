"""Published weights: reading files of tensors, and comparing their names with a model's."""
