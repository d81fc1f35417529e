"""What all controllers of sources share, and what those who read sources need."""
