"""Asking a model in the browser: pictures and clips in, reasoning and answer streamed, answers drawn and counted."""
