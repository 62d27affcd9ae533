"""Worlds: questions about pictures and clips that are drawn, so that every answer is known and none can be memorised."""
