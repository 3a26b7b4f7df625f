"""Side-by-side measurements against peers, on one machine in one run. Figures are ratios."""
