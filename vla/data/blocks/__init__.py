"""Rendered pictures of blocks on a table, with questions whose answers are true by construction."""
