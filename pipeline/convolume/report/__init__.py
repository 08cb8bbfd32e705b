"""Report: the record of a run, in the terminal and as figures."""
