"""Write model cards and draw their plots."""
