"""The bundle's files: paths, manifest, rows, reading and verifying."""
