"""Face and landmark detectors, tracking, crops, head pose, landmark images, person mattes."""
