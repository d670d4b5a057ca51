"""The networks and the model folder."""
