"""What a detector can be made of, and what one made of it costs: nothing here trains or predicts."""
