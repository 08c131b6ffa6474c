"""Avatar + driving video -> video: retargeting, rendering, pasting back."""
