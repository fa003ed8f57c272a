"""Hand models: MANO's layer, reading of model files, the open hand, and hand anatomy."""
