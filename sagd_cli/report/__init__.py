"""Reports: what there is to say of runs and sweeps, gathered and laid out for one page."""
