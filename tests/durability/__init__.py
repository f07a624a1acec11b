"""The real server process against kills and failing disks: what it acknowledged is there, and nothing is half done."""
