"""Networks and inference settings that fit a budget of multiply-adds, time or parameters."""
