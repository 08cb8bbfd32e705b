"""Planning: from a workflow to a plan; pure, and without arrays."""
