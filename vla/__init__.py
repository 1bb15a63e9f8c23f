"""vla: train, resume, evaluate and run vision-language-action models. Importing it loads no torch."""

__version__ = "0.1.0"
