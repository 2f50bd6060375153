"""Pictures made elsewhere: `folder` finds them, `names` and `looks` check them, `shares` gives each prompt its own, `gather` lists them."""
