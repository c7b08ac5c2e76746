"""Self-training (LVIS 2020): what a teacher finds becomes training data, with and without labels beside it."""
