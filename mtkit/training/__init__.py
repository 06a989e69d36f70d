"""From batches to weights: loss, optimizers, checkpoints and the training loop."""
