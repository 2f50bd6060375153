"""How well an image fits a text: CLIP and HPS."""
