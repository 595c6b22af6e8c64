"""Files: atomic writing, ownership, checksums, and the readers of JSON and YAML."""
