"""A chat app for a terminal: views over `ChatClient`, made with textual. Called by `chatkit chat`.

`words` says how things read, `message_list` shows a conversation, `app` ties them to a client.
"""
