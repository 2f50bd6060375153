"""From the results of a study to `reports/<study>/`: tables, plots, gallery, claims, one page."""
