"""Any text-to-image pipeline of the library diffusers as a policy: `fetch` gets it, `policy` draws with it."""
