"""The `fourdhands` command: one file per subcommand."""
