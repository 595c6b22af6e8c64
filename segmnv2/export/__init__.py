"""A network as a file for another runtime, with all that comes before and after it inside, and the proof of it."""
