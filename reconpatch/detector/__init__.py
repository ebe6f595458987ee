"""The method for photographs of your own product: fit, predict, evaluate, and saved models."""
