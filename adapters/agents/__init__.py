"""Several agents as one batch system: hosts that are reached over ssh, or that pilots bring. They come and go."""
