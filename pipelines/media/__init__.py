"""Videos, sound and pictures in and out; decoding happens in a child process with limits."""
