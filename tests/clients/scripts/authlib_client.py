"""Authlib, unmodified, through every flow it knows (bearer tokens: it has no DPoP). JSON in, JSON out."""
import json
import sys
from urllib.parse import urljoin

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from joserfc.jwk import ECKey

job = json.load(sys.stdin)
told = {}


def discover(external):
    metadata = AuthorizationServerMetadata(requests.get(get_well_known_url(job["url"], external=True, suffix=external)).json())
    # Its own checks want https of every endpoint; a test has loopback.
    assert metadata["issuer"].rstrip("/") == job["url"].rstrip("/"), metadata
    metadata.validate_grant_types_supported()
    metadata.validate_code_challenge_methods_supported()
    metadata.validate_scopes_supported()
    return metadata


def session(**more):
    made = OAuth2Session(job["client"], key, token_endpoint_auth_method="private_key_jwt", revocation_endpoint_auth_method="private_key_jwt", token_endpoint=metadata["token_endpoint"], **more)
    made.register_client_auth_method(PrivateKeyJWT(metadata["token_endpoint"], alg="ES256"))
    return made


def ask(made):
    body = {"model": "vouchgate/echo", "messages": [{"role": "user", "content": "Hello"}]}
    answer = made.post(job["url"] + "/v1/chat/completions", json=body)
    return answer.json()["choices"][0]["message"]["content"] if answer.ok else answer.status_code


def walk(url):
    """What a browser does: redirects and cookies, until it is sent back to the client."""
    browser = requests.Session()
    for _ in range(10):
        answer = browser.get(url, allow_redirects=False)
        assert "location" in answer.headers, (answer.status_code, answer.text)
        url = urljoin(url, answer.headers["location"])
        if url.startswith(job["redirect_uri"]):
            return url
    raise AssertionError("too many redirects")


def refused(request):
    try:
        request()
    except OAuthError as error:
        return error.error
    return None


key = ECKey.import_key(job["key"])
metadata = discover("oauth-authorization-server")
told["oidc"] = discover("openid-configuration")["issuer"] == metadata["issuer"]

service = session(scope="chat")
token = service.fetch_token(grant_type="client_credentials")
told["client_credentials"] = {"type": token["token_type"], "text": ask(service)}
introspected = service.introspect_token(metadata["introspection_endpoint"], token["access_token"]).json()
told["introspection"] = {name: introspected.get(name) for name in ("active", "client_id", "token_type")}
revoked = service.revoke_token(metadata["revocation_endpoint"], token["access_token"], token_type_hint="access_token")
after = service.introspect_token(metadata["introspection_endpoint"], token["access_token"]).json()
told["revocation"] = {"status": revoked.status_code, "after": after, "refused": ask(service)}

web = session(scope="openid chat", redirect_uri=job["redirect_uri"], code_challenge_method="S256")
verifier, nonce = generate_token(48), generate_token(20)
url, state = web.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce)
token = web.fetch_token(authorization_response=walk(url), state=state, code_verifier=verifier, redirect_uri=job["redirect_uri"])
told["code"] = {"type": token["token_type"], "text": ask(web), "id_token": "id_token" in token}

first = token["refresh_token"]
token = web.refresh_token(refresh_token=first)
told["refresh"] = {"rotated": token["refresh_token"] != first, "text": ask(web)}
web.revoke_token(metadata["revocation_endpoint"], token["refresh_token"], token_type_hint="refresh_token")
told["refresh"]["revoked"] = refused(lambda: web.refresh_token(refresh_token=token["refresh_token"]))

exchange = {"subject_token": job["subject_token"], "subject_token_type": "urn:ietf:params:oauth:token-type:access_token", "scope": "chat"}
other = session()
token = other.fetch_token(grant_type="urn:ietf:params:oauth:grant-type:token-exchange", **exchange)
told["exchange"] = {"type": token["token_type"], "issued": token["issued_token_type"], "text": ask(other)}
json.dump(told, sys.stdout)
