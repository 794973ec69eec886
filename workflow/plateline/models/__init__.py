"""Heavy models, one a file: the only place that imports torch."""
