"""joserfc as the other end of what is sealed to installations (RFC 7518 section 4.6). JSON in, JSON out."""
import json
import sys

from joserfc import jwe
from joserfc.jwk import ECKey, OKPKey

ALGORITHMS = ["ECDH-ES", "A256GCM"]
job = json.load(sys.stdin)
done = {"keys": [], "opened": [], "sealed": []}


def key_of(jwk):
    return (ECKey if jwk["kty"] == "EC" else OKPKey).import_key(jwk)


for crv in job.get("make", []):
    made = (ECKey if crv == "P-256" else OKPKey).generate_key(crv, private=True)
    done["keys"].append(made.as_dict(private=True))
for one in job.get("open", []):
    try:
        opened = jwe.decrypt_compact(one["jwe"], key_of(one["jwk"]), algorithms=ALGORITHMS)
        done["opened"].append({"text": opened.plaintext.decode(), "header": opened.headers()})
    except Exception as error:
        done["opened"].append({"error": type(error).__name__})
for one in job.get("seal", []):
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "apu": one["apu"], "apv": one["apv"]}
    done["sealed"].append(jwe.encrypt_compact(header, one["text"].encode(), key_of(one["jwk"]), algorithms=ALGORITHMS))
print(json.dumps(done))
