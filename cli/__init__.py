"""The command line: `convert` and, where another program owns that name, `mixformer`."""
