"""The hub: who is here (`presence`), who of a conversation is (`audience`), and what they are offered (`fanout`)."""
