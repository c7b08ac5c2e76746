"""HTML pages that hold all they need, and the plots in them. No PyTorch."""
