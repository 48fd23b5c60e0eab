"""How well drawings are found."""
