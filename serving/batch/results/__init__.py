"""Results of batch animation: sidecars, report, contact page, mosaics."""
