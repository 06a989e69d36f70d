"""From ids to logits: every translation model behind one interface."""
