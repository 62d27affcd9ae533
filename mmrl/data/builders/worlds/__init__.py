"""Worlds: questions about drawn pictures and clips, so that every answer is known and none can be memorised."""
