"""Teachers: who reasons about a slate so that a student can learn to."""
