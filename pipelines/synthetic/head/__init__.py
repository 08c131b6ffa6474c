"""The geometry and textures of a synthetic person: head model, skin, hair, teeth, glasses, landmarks."""
