"""The warp prior: warp a source frame so that its landmarks match the target's."""
