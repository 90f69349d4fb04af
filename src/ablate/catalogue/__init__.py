"""`python -m ablate catalogue`: what there is to be ablated, and what each module costs."""
