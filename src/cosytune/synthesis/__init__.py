"""From a request to a wave."""
