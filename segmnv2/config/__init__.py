"""An experiment as a YAML file: its schema, how it is read, and what is said when it is wrong."""
