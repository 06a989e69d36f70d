"""The four special tokens, the same for every tokenizer and model."""

PAD, UNK, BOS, EOS = 0, 1, 2, 3
PIECES = ("<pad>", "<unk>", "<s>", "</s>")
