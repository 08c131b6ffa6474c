"""Face detectors, landmarks, tracks, crops, head pose, landmark images, person mattes."""
