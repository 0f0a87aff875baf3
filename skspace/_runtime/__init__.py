"""Where things are computed and what is shown meanwhile: devices, progress, warnings."""
