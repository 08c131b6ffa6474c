"""Motion without a film: actions and angles, sliders, key frames and motion files as drivers."""
