"""Finding named objects in an image: by asking a multimodal model, or with a detector."""
