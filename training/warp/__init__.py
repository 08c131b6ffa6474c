"""The warp prior: source images bent so that their landmarks follow the driver's."""
