"""The pictures that frames start from: how they are made, and which a frame takes."""
