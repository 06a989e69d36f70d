"""From text to batches: corpora, tokenizers, the binarised store and batch plans."""
