"""Models, training, metrics and the unlearning methods, one method per file."""
