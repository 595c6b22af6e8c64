"""Files: atomic writing, ownership, checksums, and readers of JSON and YAML."""
