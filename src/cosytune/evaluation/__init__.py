"""Numbers about speech: records, statistics, metrics and independent judges."""
