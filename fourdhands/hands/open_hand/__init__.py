"""The open hand: our own procedurally made hand in MANO's layout, free of MANO's licence."""
