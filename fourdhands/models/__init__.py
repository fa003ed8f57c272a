"""The network: start with `network.py`."""
