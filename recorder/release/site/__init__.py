"""A folder of released runs as a catalogue of static pages."""
