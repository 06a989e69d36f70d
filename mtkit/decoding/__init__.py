"""From logits to text: search, the translator and its line contract, evaluation."""
