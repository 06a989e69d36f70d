"""From runs to insight: gradients, lengths, attention, comparisons, the ladder and its claims."""
