"""Report: figures as charts and pages, for people who decide by them."""
