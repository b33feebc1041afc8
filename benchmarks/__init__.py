"""What the exchange costs and how long it takes; timings live here, never in tests."""
