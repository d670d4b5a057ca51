"""From results to one page with tables, curves and players, and to tables for the terminal."""
