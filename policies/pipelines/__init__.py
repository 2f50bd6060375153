"""Any text-to-image pipeline of the library diffusers as a policy: `fetch` brings it here, `policy` draws with it."""
