"""What every page needs: text that stays text, media that a manifest names, marks drawn on them, one style, serving."""
