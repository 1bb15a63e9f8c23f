"""Rendered objects and surfaces with defects whose every pixel is known, in MVTec-AD's layout."""
