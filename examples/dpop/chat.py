"""A chat with each of the official SDKs, bound to a key that never leaves this process.

pip install openai anthropic joserfc
VOUCHGATE_URL=http://127.0.0.1:8080 CLIENT_ID=batch-jobs CLIENT_SECRET=... MODEL=vouchgate/echo python chat.py
"""
import os

import anthropic
import httpx2
import openai

from dpop import DPoP

url, model = os.environ["VOUCHGATE_URL"], os.environ["MODEL"]
dpop = DPoP()

# The token endpoint binds the token to the key it sees a proof of.
form = {"grant_type": "client_credentials", "client_id": os.environ["CLIENT_ID"], "client_secret": os.environ["CLIENT_SECRET"]}
answer = httpx2.post(f"{url}/oauth/token", data=form, auth=dpop).raise_for_status().json()
assert answer["token_type"] == "DPoP", answer
dpop.token = answer["access_token"]

http = httpx2.Client(auth=dpop)
messages = [{"role": "user", "content": "Hello from a bound token"}]

client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", http_client=http)
print(client.chat.completions.create(model=model, messages=messages).choices[0].message.content)
for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="")
print()

client = anthropic.Anthropic(base_url=url, auth_token="unused", http_client=http)
print(client.messages.create(model=model, max_tokens=1000, messages=messages).content[0].text)
with client.messages.stream(model=model, max_tokens=1000, messages=messages) as stream:
    for text in stream.text_stream:
        print(text, end="")
print()
