"""Input and output of images and videos: lists of files, readers, writers, and pipelines for many items."""
