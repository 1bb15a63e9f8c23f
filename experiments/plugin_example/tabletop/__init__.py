"""A plug-in for `vla`: what a laboratory keeps in a package of its own."""
