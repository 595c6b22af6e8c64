"""Which networks and inference fit a budget of multiply-adds, time or parameters."""
