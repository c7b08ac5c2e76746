"""How an ensemble's views are spread over GPUs: what each costs, which share a model, how many replicas there are."""
