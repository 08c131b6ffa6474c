"""`animate`: many portraits by many drivers. Inputs, workspace, rendering, sidecars."""
