"""Text-to-image pipelines of the library diffusers as policies: `fetch` gets one, `policy` draws with it."""
