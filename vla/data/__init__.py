"""Reading data: datasets, the Processor (image transform and normalisation), samplers, collators and loaders."""
