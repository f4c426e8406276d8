"""Pre-rankers: what turns a catalogue of thousands into a slate of about ten."""
