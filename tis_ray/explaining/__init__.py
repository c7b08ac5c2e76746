"""Pages that explain scores: what one set of results gets right and wrong, and in what two of them differ."""
