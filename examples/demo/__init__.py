"""What `chatkit demo` shows: the story of a message, the replay of a group chat, and a playground with the web page.

It is written as an app on chatkit would be. `src/chatkit/_demo` is a link to this folder, so that the command finds it
in a checkout and in a wheel alike; nothing but the command imports it.
"""
