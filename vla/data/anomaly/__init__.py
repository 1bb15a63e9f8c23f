"""Pictures of objects, most of them faultless, in MVTec-AD's layout: index, datasets, batches, rendered examples."""
