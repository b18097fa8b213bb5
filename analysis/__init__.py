"""Figures and tables as pure functions of recorded runs."""
