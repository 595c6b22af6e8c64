"""How fast data are read and networks trained, measured on the user's own machine and experiment."""
