"""Fitting the calibrations of members on a validation set, and writing them into the ensemble file."""
