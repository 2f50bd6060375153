"""Pictures made elsewhere as a policy: `folder` finds them, `gather` checks them once, `policy` hands them out."""
