"""From operators and models to schedules: tiles, placement, schedule."""
