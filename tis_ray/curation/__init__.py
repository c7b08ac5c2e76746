"""What one does with a data set before a member is trained on it: check it and split it. No PyTorch."""
