"""Writes `reports/<study>/` from the results of a study: tables, plots, gallery, claims and one page."""
