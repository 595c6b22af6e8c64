"""Images and videos in and out: lists of files, readers and writers, and work on many of them at once."""
