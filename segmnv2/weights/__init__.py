"""Checkpoints: reading foreign formats, key tables, strict loading with a report, safetensors files."""
