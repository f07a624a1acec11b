"""What happens to messages before they are stored, where a moderator is set; and what is decided about them later."""
