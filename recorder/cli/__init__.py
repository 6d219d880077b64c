"""The commands: one thin file each, found by `recorder.cli.main`."""
