"""Raw logs -> items and timelines: readers and splits."""
