"""Better ensembles from what a batch run kept: views are fused anew and scored, and no model runs."""
