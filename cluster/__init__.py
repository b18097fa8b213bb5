"""Bringing machines up, running sweeps on them from elsewhere, and taking all down again."""
