"""One thin controller for each kind, and the steps that several kinds share."""
