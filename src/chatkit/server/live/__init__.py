"""The hub: who is here (`presence`), who of a conversation is online (`audience`), and what they are offered (`fanout`)."""
