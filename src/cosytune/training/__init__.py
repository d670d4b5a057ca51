"""Visible loops that train every part, and the folders that no run is lost in."""
