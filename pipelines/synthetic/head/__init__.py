"""The geometry of a synthetic person: head model, skin, hair, teeth, landmarks."""
