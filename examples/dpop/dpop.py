"""DPoP (RFC 9449) for any SDK that takes an httpx2 client, OpenAI's and Anthropic's among them."""
import base64
import hashlib
import secrets
import time

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey


class DPoP(httpx2.Auth):
    """Proves with every request that it comes from the holder of the key the token is bound to."""

    def __init__(self, token=None):
        self.key, self.token, self.nonce = ECKey.generate_key("P-256"), token, None

    def proof(self, request):
        target = str(request.url.copy_with(query=None, fragment=None))
        claims = {"jti": secrets.token_urlsafe(16), "htm": request.method, "htu": target, "iat": int(time.time())}
        if self.token:
            claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(self.token.encode()).digest()).decode().rstrip("=")
        if self.nonce:
            claims["nonce"] = self.nonce
        public = {name: self.key.as_dict(private=False)[name] for name in ("kty", "crv", "x", "y")}
        return jwt.encode({"typ": "dpop+jwt", "alg": "ES256", "jwk": public}, claims, self.key)

    def auth_flow(self, request):
        request.headers.pop("x-api-key", None)  # what Anthropic's SDK may send beside
        for _ in range(2):
            used = self.nonce
            request.headers["DPoP"] = self.proof(request)
            if self.token:
                request.headers["Authorization"] = f"DPoP {self.token}"
            response = yield request
            self.nonce = response.headers.get("DPoP-Nonce", self.nonce)
            if response.status_code not in (400, 401) or self.nonce == used:
                return  # not "use this nonce" (use_dpop_nonce)
