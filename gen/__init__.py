"""The generator: specs in, code and documents out. See README.md, "How to regenerate"."""
